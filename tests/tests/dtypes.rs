//! Hypernetwork and target in dtypes of their own: what the target gives follows f32, and gradients
//! keep the hypernetwork's dtype.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Device, Module, ModuleT, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::nn::{self, AdamW, Optimizer};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_tests::{device, gradients, input, message, relative_error, values, variables};

const DTYPES: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

/// A layer of each kind: with and without routes, with and without bases, and of candle's own.
#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(1, 4, 3, padding = 1))]
    conv: nn::Conv2d,
    #[hyper(group_norm(2, 4, 1e-5))]
    norm: nn::GroupNorm,
    #[hyper(linear(4 * 6, 8))]
    hidden: nn::Linear,
    #[hyper(layer_norm(8, 1e-5))]
    layer_norm: nn::LayerNorm,
    #[hyper(tensor([8]))]
    scale: Tensor,
    #[hyper(linear(8, 3))]
    out: candle_nn::Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = self.norm.forward(&self.conv.forward(xs)?)?.tanh()?.flatten_from(1)?;
        let ys = self.layer_norm.forward(&self.hidden.forward(&ys)?)?;
        self.out.forward(&(ys.broadcast_mul(&self.scale)? + ys)?.tanh()?)
    }
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(20, 6), generator: mlp([8], tanh), mode: static }
}

/// A network per row, also where the row is its own condition.
#[derive(HyperTarget)]
struct Small {
    #[hyper(linear(3, 6))]
    hidden: nn::Linear,
    #[hyper(linear(6, 2))]
    out: nn::Linear,
}

impl Module for Small {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.hidden.forward(xs)?.tanh()?)
    }
}

hypernetwork! {
    struct HyperSmall for Small { embedding: rnn(3, 19, 4), generator: linear, mode: dynamic }
}

/// How far a value of this dtype may be off; sums are longer than one rounding.
fn bound(dtype: DType) -> f64 {
    match dtype {
        DType::F64 | DType::F32 => 1e-4,
        DType::F16 => 2e-2,
        _ => 1.5e-1,
    }
}

/// The loss of outputs, in full precision.
fn loss(ys: &Tensor) -> Result<Tensor> {
    ys.to_dtype(DType::F64)?.sqr()?.mean_all()
}

/// What a network of these dtypes gives, and that its gradients have the first.
fn run(
    of_hyper: DType,
    forward: impl Fn(candle_nn::VarBuilder<'static>) -> Result<Tensor>,
) -> Result<(f64, Vec<Tensor>)> {
    let (vars, vb) = variables(5, of_hyper);
    let loss = loss(&forward(vb)?)?;
    let grads = gradients(&vars, &loss)?;
    assert!(grads.values().all(|grad| grad.dtype() == of_hyper));
    Ok((loss.to_scalar()?, grads.into_values().collect()))
}

/// Every pair of dtypes gives the loss and the gradients of f64, as well as its dtypes can.
fn follows(forward: fn(candle_nn::VarBuilder<'static>, DType) -> Result<Tensor>) -> Result<()> {
    let (exact, exact_grads) = run(DType::F64, |vb| forward(vb, DType::F64))?;
    for of_hyper in DTYPES {
        for of_target in DTYPES {
            let pair = format!("{of_hyper:?} for {of_target:?}");
            let (found, grads) = run(of_hyper, |vb| forward(vb, of_target))?;
            let bound = bound(of_hyper).max(bound(of_target));
            assert!((found / exact - 1.).abs() <= bound, "{pair}: {found}, not {exact}");
            for (grad, expected) in grads.iter().zip(&exact_grads) {
                let error = relative_error(grad, expected)?;
                assert!(error <= bound, "{pair}: a gradient is off by {error:e}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_static_network_of_every_pair() -> Result<()> {
    follows(|vb, dtype| {
        let net = HyperNet::new(vb)?.with_target_dtype(dtype)?;
        let ys = net.forward(&input(&[5, 1, 2, 3], 3, dtype)?)?;
        assert_eq!(ys.dtype(), dtype);
        Ok(ys)
    })
}

#[test]
fn a_dynamic_network_of_every_pair() -> Result<()> {
    follows(|vb, dtype| {
        let net = HyperSmall::new(vb)?.with_target_dtype(dtype)?;
        let ys = net.forward(&input(&[4, 3], 3, dtype)?)?;
        assert_eq!(ys.dtype(), dtype);
        Ok(ys)
    })
}

#[test]
fn a_sequence_in_half_precision() -> Result<()> {
    let net = HyperSmall::new(variables(5, DType::F32).1)?;
    let xs = input(&[4, 3, 3], 3, DType::F32)?;
    let (expected, _) = net.run(&xs, &net.zero_state(4)?)?;
    let net = net.with_target_dtype(DType::BF16)?;
    let (found, state) = net.run(&xs.to_dtype(DType::BF16)?, &net.zero_state(4)?)?;
    assert_eq!((found.dtype(), state.tensors()[0].dtype()), (DType::BF16, DType::F32));
    assert!(relative_error(&found, &expected)? < bound(DType::BF16));
    Ok(())
}

/// A tensor that candle starts at a constant does so in every dtype.
#[test]
fn constants_are_exact() -> Result<()> {
    for of_hyper in DTYPES {
        for of_target in DTYPES {
            let net = HyperNet::new(variables(5, of_hyper).1)?.with_target_dtype(of_target)?;
            let params = net.generate_params()?;
            for (param, tensor) in params.tensors() {
                assert_eq!(tensor.dtype(), of_target);
                if param.name.starts_with("norm.") || param.name.starts_with("layer_norm.") {
                    let constant = if param.name.ends_with("weight") { 1. } else { 0. };
                    assert!(values(tensor)?.iter().all(|&value| value == constant), "{param:?}");
                }
            }
        }
    }
    Ok(())
}

/// The last loss of a training of a hypernetwork in one dtype whose target has another.
fn trained(of_variables: DType, dtype: DType) -> Result<f64> {
    let (vars, vb): (VarMap, _) = variables(5, of_variables);
    let net = HyperNet::new(vb)?.with_target_dtype(dtype)?;
    let xs = input(&[32, 1, 2, 3], 3, DType::F32)?;
    let ys = Tensor::cat(&[xs.flatten_from(1)?.narrow(1, 0, 3)?.sin()?], 1)?;
    let mut optimizer = AdamW::new_lr(vars.all_vars(), 5e-3)?;
    let loss = || {
        let found = net.forward(&xs.to_dtype(dtype)?)?.to_dtype(DType::F32)?;
        (found - &ys)?.sqr()?.mean_all()
    };
    for _ in 0..100 {
        optimizer.backward_step(&loss()?)?;
    }
    Ok(loss()?.to_scalar::<f32>()?.into())
}

#[test]
fn training_in_bf16_follows_f32() -> Result<()> {
    let (single, half) = (trained(DType::F32, DType::F32)?, trained(DType::F32, DType::BF16)?);
    println!("loss after 100 steps: {single:.5} in f32, {half:.5} in bf16");
    assert!(single < 0.02 && half < 0.02);
    assert!((half / single - 1.).abs() < 0.1, "{half}, not {single}");
    Ok(())
}

/// Variables in half precision, whose moments are in f32: in f16 candle's ε is 0.
#[test]
fn variables_in_half_precision_learn() -> Result<()> {
    let single = trained(DType::F32, DType::F32)?;
    for dtype in [DType::F16, DType::BF16] {
        let half = trained(dtype, dtype)?;
        println!("loss after 100 steps: {single:.5} in f32, {half:.5} in {dtype:?}");
        assert!(half < 0.03, "{dtype:?}: {half}, not {single}");
    }
    Ok(())
}

#[test]
fn the_target_s_dtype_is_checked() -> Result<()> {
    let net = || HyperNet::new(variables(5, DType::F32).1);
    assert_eq!(
        message(net()?.with_target_dtype(DType::U32)),
        "the target's dtype is U32, expected one of f16, bf16, f32 and f64"
    );
    // Nothing is cast behind the user's back.
    let net = net()?.with_target_dtype(DType::BF16)?;
    assert_eq!(
        message(net.forward(&Tensor::zeros((1, 1, 2, 3), DType::F32, device())?)),
        "conv2d: the input is F32, but the weight BF16"
    );
    let small = HyperSmall::new(variables(5, DType::F32).1)?.with_target_dtype(DType::BF16)?;
    assert_eq!(
        message(small.generate_params(&input(&[4, 3], 3, DType::BF16)?)),
        "the condition is BF16, but the hypernetwork F32"
    );
    Ok(())
}

/// A checkpoint is the hypernetwork's, whatever the target's dtype; what is exported is the target's.
#[test]
fn files_have_the_dtype_of_what_they_hold() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (saved, exported) = (folder.path().join("saved"), folder.path().join("exported"));
    let half = HyperNet::new(variables(5, DType::F32).1)?.with_target_dtype(DType::BF16)?;
    half.save(&saved)?;
    half.export(&exported)?;
    let single = HyperNet::new(variables(6, DType::F32).1)?;
    single.load(&saved)?;
    let expected = single.generate_params()?.flat()?;
    let found = half.generate_params()?.flat()?;
    assert!(relative_error(&found, &expected)? < 1e-2);
    let exported = candle_core::safetensors::load(&exported, device())?;
    assert!(exported.values().all(|tensor| tensor.dtype() == DType::BF16));
    Ok(())
}

/// Running statistics first, so that they are asked for before any parameter, and last.
struct Normed {
    first: candle_nn::BatchNorm,
    linear: candle_nn::Linear,
    last: candle_nn::BatchNorm,
}

impl Normed {
    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            first: candle_nn::batch_norm(3, 1e-5, vb.pp("first"))?,
            linear: candle_nn::linear(3, 2, vb.pp("linear"))?,
            last: candle_nn::batch_norm(2, 1e-5, vb.pp("last"))?,
        })
    }
}

impl ModuleT for Normed {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let xs = self.linear.forward(&self.first.forward_t(xs, train)?)?;
        self.last.forward_t(&xs, train)
    }
}

hypernetwork! {
    struct HyperNormed for Normed {
        target: constructor, embedding: table(6, 3), generator: linear, mode: static,
    }
}

/// The same by fields: candle's layer and ours.
#[derive(HyperTarget)]
struct Derived {
    #[hyper(batch_norm(3, 1e-5))]
    first: candle_nn::BatchNorm,
    #[hyper(linear(3, 2))]
    linear: candle_nn::Linear,
    #[hyper(batch_norm(2, 1e-5))]
    last: nn::BatchNorm,
}

impl ModuleT for Derived {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let xs = self.linear.forward(&self.first.forward_t(xs, train)?)?;
        self.last.forward_t(&xs, train)
    }
}

hypernetwork! {
    struct HyperDerived for Derived { embedding: table(6, 3), generator: linear, mode: static }
}

/// Statistics of a pair of dtypes, after two steps in training: as bound to those of f64, in the file too.
macro_rules! statistics_follow {
    ($new:expr) => {
        let mut exact: Option<Vec<Vec<f64>>> = None;
        for of_hyper in [DType::F64, DType::F32] {
            for of_target in [DType::F64, DType::F32, DType::F16, DType::BF16] {
                let net = $new(variables(5, of_hyper).1)?.with_target_dtype(of_target)?;
                let xs = |seed| input(&[8, 3], seed, of_target);
                net.forward_t(&xs(1)?, true)?;
                net.forward_t(&xs(2)?, true)?;
                let eval = net.forward_t(&xs(3)?, false)?;
                assert_eq!(eval.dtype(), of_target);
                let dir = tempfile::TempDir::new().unwrap();
                let path = dir.path().join("net.safetensors");
                net.save(&path)?;
                let file = candle_core::safetensors::load(&path, &Device::Cpu)?;
                let names = ["first.running_mean", "first.running_var", "last.running_mean"];
                let of = |name: &str| values(&file[&format!("buffers.{name}")]);
                let mut found = names.map(of).into_iter().collect::<Result<Vec<_>>>()?;
                found.push(values(&eval)?);
                let exact = exact.get_or_insert_with(|| found.clone());
                for (found, expected) in found.iter().flatten().zip(exact.iter().flatten()) {
                    let off = (found - expected).abs();
                    let bound = 2. * bound(of_target).max(bound(of_hyper));
                    assert!(off < bound, "{of_hyper:?} for {of_target:?}: {found}, not {expected}");
                }
                // Into a network whose target has another dtype.
                let other = $new(variables(6, of_hyper).1)?;
                other.load(&path)?;
                assert_eq!(
                    values(&other.forward_t(&xs(3)?.to_dtype(of_hyper)?, false)?)?.len(),
                    16
                );
            }
        }
    };
}

#[test]
fn running_statistics_move_in_every_dtype() -> Result<()> {
    statistics_follow!(|vb| HyperNormed::new(vb, Normed::new));
    statistics_follow!(HyperDerived::new);
    Ok(())
}

/// A part of a model in a dtype of its own.
#[test]
fn running_statistics_of_another_dtype() -> Result<()> {
    let hyper = HyperNormed::new(variables(5, DType::F32).1, |vb| {
        let first = candle_nn::batch_norm(3, 1e-5, vb.pp("first").to_dtype(DType::F64))?;
        let linear = candle_nn::linear(3, 2, vb.pp("linear"))?;
        Ok(Normed { first, linear, last: candle_nn::batch_norm(2, 1e-5, vb.pp("last"))? })
    })?;
    hyper.target()?.first.forward_t(&input(&[8, 3], 1, DType::F64)?, true)?;
    let moved = values(hyper.target()?.first.running_mean())?;
    assert!(moved.iter().all(|value| *value != 0.), "{moved:?}");
    Ok(())
}
