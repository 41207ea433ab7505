//! candle's operations beside differences of a loss: those of `KNOWN_FAULTS` are at fault, and the others
//! that a model is made of are not.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::attention::{self, AttnMask};
use candle_nn::{Module, ModuleT, kv_cache, ops, rotary_emb};
use hypernn::hypernetwork::{Fault, KNOWN_FAULTS};
use hypernn_tests::{input, message, relative_error, values, weighted_sum};

/// What an operation makes of its inputs, which are variables.
type Operation = fn(&[Tensor]) -> Result<Tensor>;

struct Case {
    name: &'static str,
    inputs: &'static [&'static [usize]],
    operation: Operation,
}

const fn case(
    name: &'static str,
    inputs: &'static [&'static [usize]],
    operation: Operation,
) -> Case {
    Case { name, inputs, operation }
}

/// What is found of an operation's gradient.
#[derive(Debug)]
enum Found {
    Cut,
    /// The worst error, relative to the derivative's largest value.
    Off(f64),
    BackwardFails,
}

/// In f64, or in f32 where the operation knows no f64.
fn look(case: &Case) -> Result<Found> {
    look_in(case, DType::F64).or_else(|_| look_in(case, DType::F32))
}

fn look_in(case: &Case, dtype: DType) -> Result<Found> {
    let vars = case.inputs.iter().zip(1..);
    let vars = vars.map(|(dims, seed)| Var::from_tensor(&input(dims, seed, dtype)?));
    let vars = vars.collect::<Result<Vec<_>>>()?;
    let loss = || {
        let inputs: Vec<_> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        weighted_sum(&(case.operation)(&inputs)?)
    };
    let at = loss()?;
    let Ok(grads) = at.backward() else { return Ok(Found::BackwardFails) };
    let mut worst: f64 = 0.;
    for var in &vars {
        let slopes = slopes(var, &loss)?;
        if values(&slopes)?.iter().all(|slope| slope.abs() < 1e-6) {
            continue;
        }
        let Some(grad) = grads.get(var) else { return Ok(Found::Cut) };
        worst = worst.max(relative_error(grad, &slopes)?);
    }
    Ok(Found::Off(worst))
}

/// The central difference in each value of a variable.
fn slopes(var: &Var, loss: &dyn Fn() -> Result<Tensor>) -> Result<Tensor> {
    let step = if var.dtype() == DType::F64 { 1e-5 } else { 1e-2 };
    let start = values(&var.copy()?)?;
    let at = |index: usize, by: f64| {
        let mut moved = start.clone();
        moved[index] += by;
        let moved = Tensor::from_vec(moved, var.shape(), &Device::Cpu)?;
        var.set(&moved.to_dtype(var.dtype())?)?;
        loss()?.to_dtype(DType::F64)?.to_scalar::<f64>()
    };
    let slope = |index| Ok((at(index, step)? - at(index, -step)?) / (2. * step));
    let slopes = (0..start.len()).map(slope).collect::<Result<Vec<_>>>()?;
    let start = Tensor::from_vec(start, var.shape(), &Device::Cpu)?;
    var.set(&start.to_dtype(var.dtype())?)?;
    Tensor::from_vec(slopes, var.shape(), &Device::Cpu)
}

fn angles() -> Result<(Tensor, Tensor)> {
    let angles = input(&[3, 2], 9, DType::F64)?;
    Ok((angles.cos()?, angles.sin()?))
}

fn ids(ids: &[u32]) -> Result<Tensor> {
    Tensor::new(ids, &Device::Cpu)
}

fn id_grid() -> Result<Tensor> {
    Tensor::new(&[[2u32, 0], [1, 1], [3, 2]], &Device::Cpu)
}

/// By the operations of `KNOWN_FAULTS`, in their order.
const AT_FAULT: &[Case] = &[
    case("candle_nn::ops::softmax_last_dim", &[&[2, 3]], |x| ops::softmax_last_dim(&x[0])),
    case("candle_nn::ops::rms_norm", &[&[2, 3], &[3]], |x| {
        candle_nn::RmsNorm::new(x[1].clone(), 1e-5).forward(&x[0])?;
        ops::rms_norm(&x[0], &x[1], 1e-5)
    }),
    case("candle_nn::ops::layer_norm", &[&[2, 3], &[3], &[3]], |x| {
        candle_nn::LayerNorm::new(x[1].clone(), x[2].clone(), 1e-5).forward(&x[0])
    }),
    case("candle_nn::rotary_emb::rope", &[&[1, 2, 3, 4]], |x| {
        let (cos, sin) = angles()?;
        rotary_emb::rope(&x[0], &cos, &sin)
    }),
    case("candle_nn::rotary_emb::rope_i", &[&[1, 2, 3, 4]], |x| {
        let (cos, sin) = angles()?;
        rotary_emb::rope_i(&x[0], &cos, &sin)
    }),
    case("candle_nn::rotary_emb::rope_thd", &[&[1, 3, 2, 4]], |x| {
        let (cos, sin) = angles()?;
        rotary_emb::rope_thd(&x[0], &cos, &sin)
    }),
    case("candle_nn::attention::flash_attn", &[&[1, 3, 2, 4], &[1, 3, 2, 4], &[1, 3, 2, 4]], |x| {
        attention::flash_attn::<f32>(&x[0], &x[1], &x[2], 1., AttnMask::None, None, None)
    }),
    case("candle_nn::ops::sdpa", &[&[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 4]], |x| {
        ops::sdpa(&x[0], &x[1], &x[2], None, false, 1., 1.)
    }),
    case("candle_nn::kv_cache::KvCache", &[&[1, 1, 2, 3], &[1, 1, 2, 3]], |x| {
        let (k, v) = kv_cache::KvCache::new(2, 4).append(&x[0], &x[1])?;
        k * v
    }),
    case("candle_nn::kv_cache::RotatingKvCache", &[&[1, 1, 2, 3], &[1, 1, 2, 3]], |x| {
        let (k, v) = kv_cache::RotatingKvCache::new(2, 4).append(&x[0], &x[1])?;
        k * v
    }),
    case("candle_nn::kv_cache::ConcatKvCache", &[&[1, 1, 2, 3], &[1, 1, 2, 3]], |x| {
        let (k, v) = kv_cache::ConcatKvCache::new(2).append(&x[0], &x[1])?;
        k * v
    }),
    case("Tensor::slice_set", &[&[4, 2], &[2, 2]], |x| {
        let ys = x[0].copy()?;
        ys.slice_set(&x[1], 0, 1)?;
        Ok(ys)
    }),
    case("Tensor::scatter_set", &[&[4, 2], &[3, 2]], |x| {
        let ys = x[0].copy()?;
        ys.scatter_set(&id_grid()?, &x[1], 0)?;
        Ok(ys)
    }),
    case("Tensor::scatter_add_set", &[&[4, 2], &[3, 2]], |x| {
        let ys = x[0].copy()?;
        ys.scatter_add_set(&id_grid()?, &x[1], 0)?;
        Ok(ys)
    }),
    case("candle_core::quantized::QMatMul", &[&[2, 32]], |x| {
        let weight = input(&[3, 32], 9, DType::F32)?;
        let weight = QTensor::quantize(&weight, GgmlDType::Q8_0)?;
        QMatMul::from_qtensor(weight)?.forward(&x[0])
    }),
    case("Tensor::conv1d", &[&[2, 2, 7], &[3, 2, 3]], |x| x[0].conv1d(&x[1], 0, 1, 1, 1)),
    case("Tensor::max_pool2d", &[&[2, 2, 4, 4]], |x| x[0].max_pool2d(2)),
    case("Tensor::avg_pool2d", &[&[2, 2, 5, 5]], |x| x[0].avg_pool2d(2)),
    case("Tensor::upsample_nearest1d", &[&[2, 2, 3]], |x| {
        let ys = x[0].sqr()?;
        ys.upsample_nearest1d(6)? + Tensor::cat(&[&ys, &ys], 2)?
    }),
    case("Tensor::upsample_nearest2d", &[&[2, 2, 3, 3]], |x| {
        let ys = x[0].sqr()?;
        ys.upsample_nearest2d(6, 6)?.mean_all()? + ys.sum_all()?
    }),
    case("Tensor::scatter", &[&[4, 2], &[3, 2]], |x| x[0].scatter(&id_grid()?, &x[1], 0)),
    case("Tensor::unfold", &[&[4, 6]], |x| x[0].unfold(1, 3, 2)),
    case("Tensor::max", &[&[1]], |x| Tensor::cat(&[&x[0], &x[0]], 0)?.max(0)),
    case("Tensor::min", &[&[1]], |x| Tensor::cat(&[&x[0], &x[0]], 0)?.min(0)),
    case("Tensor::matmul", &[&[2, 3, 4], &[3, 5]], |x| {
        x[0].t()?.matmul(&x[1].broadcast_as((2, 3, 5))?)
    }),
    case("Tensor::conv_transpose1d", &[&[2, 2, 4], &[2, 3, 3]], |x| {
        x[0].conv_transpose1d(&x[1], 0, 0, 1, 1, 1)
    }),
    case("Tensor::conv2d", &[&[2, 2, 7, 6], &[3, 2, 3, 3]], |x| x[0].conv2d(&x[1], 1, 2, 1, 1)),
    case("Tensor::max_pool2d_with_stride", &[&[2, 2, 5, 5]], |x| x[0].max_pool2d_with_stride(3, 2)),
    case("Tensor::avg_pool2d_with_stride", &[&[2, 2, 5, 5]], |x| x[0].avg_pool2d_with_stride(3, 2)),
    case("Tensor::upsample_bilinear2d", &[&[2, 2, 3, 3]], |x| {
        x[0].upsample_bilinear2d(6, 6, false)
    }),
    case("Tensor::scatter_add", &[&[4, 2], &[3, 2]], |x| x[0].scatter_add(&id_grid()?, &x[1], 0)),
];

const RIGHT: &[Case] = &[
    case("softmax", &[&[2, 3]], |x| ops::softmax(&x[0], D::Minus1)),
    case("rms_norm_slow", &[&[2, 3], &[3]], |x| ops::rms_norm_slow(&x[0], &x[1], 1e-5)),
    case("layer_norm_slow", &[&[2, 3], &[3], &[3]], |x| {
        ops::layer_norm_slow(&x[0], &x[1], &x[2], 1e-5)
    }),
    case("rope_slow", &[&[1, 2, 3, 4]], |x| {
        let (c, s) = angles()?;
        rotary_emb::rope_slow(&x[0], &c, &s)
    }),
    case("rope_i_slow", &[&[1, 2, 3, 4]], |x| {
        let (c, s) = angles()?;
        rotary_emb::rope_i_slow(&x[0], &c, &s)
    }),
    case("conv2d plain", &[&[2, 2, 7, 6], &[3, 2, 3, 3]], |x| x[0].conv2d(&x[1], 0, 1, 1, 1)),
    case("conv2d dilation", &[&[2, 2, 7, 6], &[3, 2, 3, 2]], |x| x[0].conv2d(&x[1], 1, 1, 2, 1)),
    case("conv2d 1x1", &[&[2, 2, 4, 4], &[3, 2, 1, 1]], |x| x[0].conv2d(&x[1], 0, 1, 1, 1)),
    case("conv_transpose2d", &[&[2, 2, 4, 3], &[2, 3, 3, 3]], |x| {
        x[0].conv_transpose2d(&x[1], 0, 0, 1, 1)
    }),
    case("conv_transpose2d stride", &[&[2, 2, 4, 3], &[2, 3, 3, 3]], |x| {
        x[0].conv_transpose2d(&x[1], 1, 1, 2, 1)
    }),
    case("conv_transpose2d dilation", &[&[2, 2, 4, 3], &[2, 3, 2, 3]], |x| {
        x[0].conv_transpose2d(&x[1], 0, 0, 1, 2)
    }),
    case("slice_assign", &[&[4, 2], &[2, 2]], |x| x[0].slice_assign(&[1..3, 0..2], &x[1])),
    case("index_add", &[&[4, 2], &[3, 2]], |x| x[0].index_add(&ids(&[1, 1, 3])?, &x[1], 0)),
    case("index_select", &[&[4, 3]], |x| x[0].index_select(&ids(&[2, 2, 0])?, 1)),
    case("gather", &[&[4, 2]], |x| x[0].gather(&id_grid()?, 0)),
    case("where_cond", &[&[4, 2], &[4, 2]], |x| x[0].gt(&x[1])?.where_cond(&x[0], &x[1])),
    case("elu", &[&[4, 2]], |x| x[0].elu(0.7)),
    case("gelu", &[&[4, 2]], |x| x[0].gelu()),
    case("gelu_erf", &[&[4, 2]], |x| x[0].gelu_erf()),
    case("erf", &[&[4, 2]], |x| x[0].erf()),
    case("silu", &[&[4, 2]], |x| x[0].silu()),
    case("sigmoid", &[&[4, 2]], |x| ops::sigmoid(&x[0])),
    case("hard_sigmoid", &[&[4, 2]], |x| ops::hard_sigmoid(&x[0])),
    case("mish", &[&[4, 2]], |x| ops::mish(&x[0])),
    case("leaky_relu", &[&[4, 2]], |x| ops::leaky_relu(&x[0], 0.1)),
    case("swiglu", &[&[4, 4]], |x| ops::swiglu(&x[0])),
    case("relu", &[&[4, 2]], |x| x[0].relu()),
    case("tanh", &[&[4, 2]], |x| x[0].tanh()),
    case("powf", &[&[4, 2]], |x| x[0].powf(3.)),
    case("pow", &[&[4, 2], &[4, 2]], |x| (x[0].abs()? + 1.)?.pow(&x[1])),
    case("abs", &[&[4, 2]], |x| x[0].abs()),
    case("recip", &[&[4, 2]], |x| x[0].recip()),
    case("sqrt", &[&[4, 2]], |x| (x[0].sqr()? + 1.)?.sqrt()),
    case("log", &[&[4, 2]], |x| (x[0].sqr()? + 1.)?.log()),
    case("max", &[&[4, 3]], |x| x[0].max(1)),
    case("min", &[&[4, 3]], |x| x[0].min_keepdim(0)),
    case("maximum", &[&[4, 2], &[4, 2]], |x| x[0].maximum(&x[1])),
    case("maximum ties", &[&[4, 2]], |x| x[0].maximum(&x[0])),
    case("clamp", &[&[4, 2]], |x| x[0].clamp(-0.5, 0.5)),
    case("var", &[&[4, 3]], |x| x[0].var(1)),
    case("mean", &[&[4, 3]], |x| x[0].mean((0, 1))),
    case("norm", &[&[4, 3]], |x| x[0].norm()),
    case("log_sum_exp", &[&[4, 3]], |x| x[0].log_sum_exp(1)),
    case("cumsum", &[&[4, 3]], |x| x[0].cumsum(1)),
    case("sort_last_dim", &[&[4, 3]], |x| Ok(x[0].sort_last_dim(true)?.0)),
    case("flip", &[&[4, 3]], |x| x[0].flip(&[1])),
    case("roll", &[&[4, 3]], |x| x[0].roll(1, 1)),
    case("repeat", &[&[4, 3]], |x| x[0].repeat((2, 2))),
    case("pad_with_zeros", &[&[4, 3]], |x| x[0].pad_with_zeros(1, 1, 2)),
    case("pad_with_same", &[&[4, 3]], |x| x[0].pad_with_same(1, 1, 2)),
    case("replication_pad2d", &[&[1, 1, 4, 3]], |x| ops::replication_pad2d(&x[0], 1)),
    case("pixel_shuffle", &[&[1, 4, 2, 3]], |x| ops::pixel_shuffle(&x[0], 2)),
    case("matmul", &[&[2, 4, 3], &[2, 3, 5]], |x| x[0].matmul(&x[1])),
    case("matmul t", &[&[2, 4, 3], &[2, 5, 3]], |x| x[0].matmul(&x[1].t()?)),
    case("broadcast_matmul", &[&[2, 4, 3], &[3, 5]], |x| x[0].broadcast_matmul(&x[1])),
    case("dot mv", &[&[3], &[4, 3]], |x| x[1].mv(&x[0])? * x[0].dot(&x[0])?.broadcast_as(4)?),
    case("div", &[&[4, 3], &[4, 3]], |x| &x[0] / (x[1].abs()? + 1.)?),
    case("log_softmax", &[&[4, 3]], |x| ops::log_softmax(&x[0], 1)),
    case("cross_entropy", &[&[4, 3]], |x| {
        candle_nn::loss::cross_entropy(&x[0], &ids(&[0, 2, 1, 1])?)
    }),
    case("bce", &[&[4, 3]], |x| {
        candle_nn::loss::binary_cross_entropy_with_logit(
            &x[0],
            &Tensor::ones((4, 3), DType::F64, &Device::Cpu)?,
        )
    }),
    case("huber", &[&[4, 3]], |x| {
        candle_nn::loss::huber(&x[0], &Tensor::ones((4, 3), DType::F64, &Device::Cpu)?, 0.5)
    }),
    case("group_norm", &[&[2, 4, 3], &[4], &[4]], |x| {
        candle_nn::GroupNorm::new(x[1].clone(), x[2].clone(), 4, 2, 1e-5)?.forward(&x[0])
    }),
    case("batch_norm", &[&[4, 3], &[3], &[3]], |x| {
        candle_nn::BatchNorm::new(
            3,
            Tensor::zeros(3, DType::F64, &Device::Cpu)?,
            Tensor::ones(3, DType::F64, &Device::Cpu)?,
            x[1].clone(),
            x[2].clone(),
            1e-5,
        )?
        .forward_t(&x[0], true)
    }),
    case("prelu", &[&[2, 4, 3], &[4]], |x| {
        candle_nn::PReLU::new(x[1].clone(), false).forward(&x[0])
    }),
    case("LayerNorm no bias", &[&[2, 3], &[3]], |x| {
        candle_nn::LayerNorm::new_no_bias(x[1].clone(), 1e-5).forward(&x[0])
    }),
    case("LayerNorm view", &[&[3, 2], &[3], &[3]], |x| {
        candle_nn::LayerNorm::new(x[1].clone(), x[2].clone(), 1e-5).forward(&x[0].t()?)
    }),
    case("RmsNorm view", &[&[3, 2], &[3]], |x| {
        candle_nn::RmsNorm::new(x[1].clone(), 1e-5).forward(&x[0].t()?)
    }),
    case("conv1d one sample", &[&[1, 2, 7], &[3, 2, 3]], |x| x[0].conv1d(&x[1], 0, 1, 1, 1)),
    case("conv1d one output channel", &[&[2, 2, 7], &[1, 2, 3]], |x| {
        x[0].conv1d(&x[1], 0, 1, 1, 1)
    }),
    case("conv2d stride", &[&[2, 2, 7, 7], &[3, 2, 3, 3]], |x| x[0].conv2d(&x[1], 1, 2, 1, 1)),
    case("conv2d groups", &[&[2, 4, 7, 7], &[4, 2, 3, 3]], |x| x[0].conv2d(&x[1], 1, 2, 1, 2)),
    case("conv2d of height 1", &[&[2, 2, 1, 7], &[3, 2, 1, 3]], |x| x[0].conv2d(&x[1], 0, 1, 1, 1)),
    case("avg_pool2d", &[&[2, 2, 4, 4]], |x| x[0].avg_pool2d(2)),
    case("upsample_nearest1d", &[&[2, 2, 3]], |x| x[0].upsample_nearest1d(6)),
    case("upsample_nearest2d", &[&[2, 2, 3, 3]], |x| x[0].upsample_nearest2d(6, 6)),
    case("slice_scatter", &[&[4, 2], &[2, 2]], |x| x[0].slice_scatter(&x[1], 0, 1)),
    case("LayerNorm over a view", &[&[3, 2], &[3], &[3]], |x| {
        candle_nn::LayerNorm::new(x[1].clone(), x[2].clone(), 1e-5).forward(&x[0].t()?)
    }),
    case("RmsNorm over a view", &[&[3, 2], &[3]], |x| {
        candle_nn::RmsNorm::new(x[1].clone(), 1e-5).forward(&x[0].t()?)
    }),
    case("sin, cos, exp, neg", &[&[4, 2]], |x| (x[0].sin()? * x[0].cos()?)? * x[0].exp()?.neg()?),
];

/// Each of `KNOWN_FAULTS` has the fault that it is said to have. Should candle learn it, this says so.
#[test]
fn known_faults() -> Result<()> {
    let known: Vec<_> = KNOWN_FAULTS.iter().map(|known| known.operation).collect();
    assert_eq!(known, AT_FAULT.iter().map(|case| case.name).collect::<Vec<_>>());
    for (known, case) in KNOWN_FAULTS.iter().zip(AT_FAULT) {
        if known.operation == "candle_nn::ops::sdpa" {
            assert_eq!(message(look(case)), "SDPA has no cpu impl");
            continue;
        }
        let found = look(case)?;
        let as_known = match found {
            Found::Cut => known.fault == Fault::Cut,
            Found::Off(error) => known.fault == Fault::Wrong && error > 0.1,
            Found::BackwardFails => known.fault == Fault::Error,
        };
        assert!(as_known, "{}: {found:?}, but it is said to be {:?}", known.operation, known.fault);
    }
    Ok(())
}

/// What a model may be made of, and what stands in for operations at fault.
#[test]
fn others_are_right() -> Result<()> {
    for case in RIGHT {
        let found = look(case)?;
        assert!(matches!(found, Found::Off(..1e-5)), "{}: {found:?}", case.name);
    }
    Ok(())
}
