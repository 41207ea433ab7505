//! `hypernn::nn` does what `candle_nn` does on odd inputs too: batches of one and of nothing, one
//! feature, biases that broadcast, inputs that are not contiguous.

#![allow(missing_docs, clippy::panic)]

use candle_core::{DType, Module, ModuleT, Result, Tensor, Var};
use candle_nn::{RNN, VarBuilder};
use hypernn_tests::{device, input, values, variables};

fn tensor(dims: &[usize], seed: u64) -> Tensor {
    input(dims, seed, DType::F32).unwrap_or_else(|err| panic!("{err}"))
}

/// Where candle gives an output, so do we, and the same.
fn same(what: &str, ours: Result<Tensor>, candles: Result<Tensor>) -> Result<()> {
    let Ok(candles) = candles else { return Ok(()) };
    let ours = ours.map_err(|err| candle_core::Error::msg(format!("{what}: {err}")))?;
    assert_eq!(ours.dims(), candles.dims(), "{what}");
    assert_eq!(ours.dtype(), candles.dtype(), "{what}");
    // On CUDA, candle can't cast a tensor without values, which there would be none of to compare.
    if ours.elem_count() == 0 {
        return Ok(());
    }
    for (a, b) in values(&ours)?.into_iter().zip(values(&candles)?) {
        assert!((a - b).abs() < 1e-4 || (a.is_nan() && b.is_nan()), "{what}: {a}, candle {b}");
    }
    Ok(())
}

/// As [`same`]; of nothing, candle's norms panic on CUDA, and ours give nothing.
fn same_norm(what: &str, xs: &Tensor, ours: &dyn Module, candles: &dyn Module) -> Result<()> {
    if xs.elem_count() == 0 && !device().is_cpu() {
        assert_eq!(ours.forward(xs)?.dims(), xs.dims(), "{what}");
        return Ok(());
    }
    same(what, ours.forward(xs), candles.forward(xs))
}

/// The tensor, and the same values with two dimensions in another order in memory.
fn orders(xs: Tensor) -> Result<Vec<Tensor>> {
    if xs.rank() < 2 {
        return Ok(vec![xs]);
    }
    let other = xs.transpose(0, 1)?.contiguous()?.transpose(0, 1)?;
    Ok(vec![xs, other])
}

#[test]
fn linear() -> Result<()> {
    let biases: [Option<&[usize]>; 8] = [
        None,
        Some(&[4]),
        Some(&[]),
        Some(&[1]),
        Some(&[1, 4]),
        Some(&[1, 1]),
        Some(&[1, 1, 4]),
        Some(&[2, 1, 4]),
    ];
    for bias in biases {
        let (weight, bias) = (tensor(&[4, 3], 1), bias.map(|dims| tensor(dims, 2)));
        let ours = hypernn::nn::Linear::new(weight.clone(), bias.clone());
        let candles = candle_nn::Linear::new(weight, bias.clone());
        for dims in [&[1, 3][..], &[5, 3], &[0, 3], &[2, 5, 3], &[2, 0, 3], &[1, 2, 2, 3], &[3]] {
            for xs in orders(tensor(dims, 3))? {
                let what = format!("bias {:?}, input {dims:?}", bias.as_ref().map(Tensor::dims));
                same(&what, ours.forward(&xs), candles.forward(&xs))?;
            }
        }
    }
    // One bias for each row of a batch.
    let (weight, bias) = (tensor(&[4, 3], 1), tensor(&[5, 4], 2));
    let ours = hypernn::nn::Linear::new(weight.clone(), Some(bias.clone()));
    let candles = candle_nn::Linear::new(weight, Some(bias));
    same("rows", ours.forward(&tensor(&[5, 3], 3)), candles.forward(&tensor(&[5, 3], 3)))?;
    let (weight, bias) = (tensor(&[1, 1], 1), Some(tensor(&[1], 2)));
    let ours = hypernn::nn::Linear::new(weight.clone(), bias.clone());
    let candles = candle_nn::Linear::new(weight, bias);
    same("one", ours.forward(&tensor(&[1, 1], 3)), candles.forward(&tensor(&[1, 1], 3)))
}

/// A bias of one number learns as candle's does.
#[test]
fn gradients_of_a_bias_that_broadcasts() -> Result<()> {
    for dims in [&[][..], &[1], &[1, 1, 4]] {
        let (weight, xs) = (Var::from_tensor(&tensor(&[4, 3], 1))?, tensor(&[2, 5, 3], 3));
        let bias = Var::from_tensor(&tensor(dims, 2))?;
        let parts = || (weight.as_tensor().clone(), Some(bias.as_tensor().clone()));
        let ours = hypernn::nn::Linear::new(parts().0, parts().1).forward(&xs)?;
        let candles = candle_nn::Linear::new(parts().0, parts().1).forward(&xs)?;
        let grads = [ours, candles].map(|ys| ys.sqr()?.sum_all()?.backward());
        let [ours, candles] = grads;
        let (ours, candles) = (ours?, candles?);
        for var in [&weight, &bias] {
            let (Some(a), Some(b)) = (ours.get(var), candles.get(var)) else {
                panic!("no gradient for {dims:?}")
            };
            same(&format!("{dims:?}"), Ok(a.clone()), Ok(b.clone()))?;
        }
    }
    Ok(())
}

#[test]
fn a_bias_that_fits_nothing_is_named() {
    let layer = hypernn::nn::Linear::new(tensor(&[4, 3], 1), Some(tensor(&[3], 2)));
    assert_eq!(
        hypernn_tests::message(layer.forward(&tensor(&[2, 3], 3))),
        "linear: the bias has shape [3], expected [4], or the number of sets in front, or what \
         broadcasts to the output's [2, 4]"
    );
}

#[test]
fn norms_over_the_last_dimension() -> Result<()> {
    for size in [1, 5] {
        let (w, b) = (tensor(&[size], 1), tensor(&[size], 2));
        for dims in [&[1, size][..], &[0, size], &[2, 0, size], &[1, 1, size], &[2, 3, size]] {
            for xs in orders(tensor(dims, 3))? {
                let what = format!("size {size}, input {dims:?}");
                let ours = hypernn::nn::LayerNorm::new(w.clone(), b.clone(), 1e-5);
                let candles = candle_nn::LayerNorm::new(w.clone(), b.clone(), 1e-5);
                same_norm(&what, &xs, &ours, &candles)?;
                let ours = hypernn::nn::LayerNorm::new_no_bias(w.clone(), 1e-5);
                let candles = candle_nn::LayerNorm::new_no_bias(w.clone(), 1e-5);
                same_norm(&what, &xs, &ours, &candles)?;
                let ours = hypernn::nn::LayerNorm::rms_norm(w.clone(), 1e-5);
                let candles = candle_nn::LayerNorm::rms_norm(w.clone(), 1e-5);
                same_norm(&what, &xs, &ours, &candles)?;
                let ours = hypernn::nn::RmsNorm::new(w.clone(), 1e-5);
                let candles = candle_nn::RmsNorm::new(w.clone(), 1e-5);
                same_norm(&what, &xs, &ours, &candles)?;
            }
        }
    }
    for remove_mean in [true, false] {
        for affine in [true, false] {
            let config = candle_nn::LayerNormConfig { eps: 1e-3, remove_mean, affine };
            let (_vars, vb) = variables(0, DType::F32);
            let ours = hypernn::nn::layer_norm(4, config, vb.clone())?;
            let candles = candle_nn::layer_norm(4, config, vb)?;
            let xs = tensor(&[3, 4], 3);
            same("configured", ours.forward(&xs), candles.forward(&xs))?;
            assert_eq!(ours.bias().is_some(), candles.bias().is_some());
        }
    }
    Ok(())
}

#[test]
fn group_norm() -> Result<()> {
    let (w, b) = (tensor(&[6], 1), tensor(&[6], 2));
    for groups in [1, 2, 6] {
        let ours = hypernn::nn::GroupNorm::new(w.clone(), b.clone(), 6, groups, 1e-5)?;
        let candles = candle_nn::GroupNorm::new(w.clone(), b.clone(), 6, groups, 1e-5)?;
        for dims in [&[1, 6, 1][..], &[0, 6, 3], &[2, 6, 2, 2], &[2, 6, 0], &[1, 6, 1, 1, 2]] {
            for xs in orders(tensor(dims, 3))? {
                let what = format!("{groups} groups, input {dims:?}");
                same_norm(&what, &xs, &ours, &candles)?;
            }
        }
    }
    Ok(())
}

/// Outputs and running statistics, in training and evaluation.
#[test]
fn batch_norm() -> Result<()> {
    let (mean, var) = (tensor(&[3], 4), tensor(&[3], 5).sqr()?);
    let (w, b) = (tensor(&[3], 1), tensor(&[3], 2));
    for dims in [&[1, 3][..], &[2, 3], &[0, 3], &[1, 3, 1, 1], &[1, 3, 2, 2], &[2, 3, 4]] {
        for train in [true, false] {
            for xs in orders(tensor(dims, 3))? {
                let what = format!("train {train}, input {dims:?}");
                let (m, v) = (mean.copy()?, var.copy()?);
                let ours = hypernn::nn::BatchNorm::new(3, m, v, w.clone(), b.clone(), 1e-5)?;
                let (m, v) = (mean.copy()?, var.copy()?);
                let candles = candle_nn::BatchNorm::new(3, m, v, w.clone(), b.clone(), 1e-5)?;
                if xs.elem_count() == 0 && train {
                    // candle's running statistics are NaN then; ours is an error.
                    assert!(ours.forward_t(&xs, train).is_err());
                    continue;
                }
                same(&what, ours.forward_t(&xs, train), candles.forward_t(&xs, train))?;
                let (ours_mean, ours_var) = (ours.running_mean(), ours.running_var());
                same(&what, Ok(ours_mean.clone()), Ok(candles.running_mean().clone()))?;
                if xs.elem_count() == 3 && train {
                    // candle's is NaN.
                    assert_eq!(values(ours_var)?, values(&var)?, "{what}");
                } else {
                    same(&what, Ok(ours_var.clone()), Ok(candles.running_var().clone()))?;
                }
            }
        }
    }
    let (m, v) = (mean.copy()?, var.copy()?);
    let ours = hypernn::nn::BatchNorm::new_no_bias(3, m, v, 1e-5)?;
    let candles = candle_nn::BatchNorm::new_no_bias(3, mean, var, 1e-5)?;
    let xs = tensor(&[1, 3], 3);
    same("no bias", ours.forward_train(&xs), candles.forward_train(&xs))
}

#[test]
fn convolutions() -> Result<()> {
    use candle_nn::{Conv1dConfig, Conv2dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig};
    for (groups, stride, padding) in [(1, 1, 0), (2, 1, 1), (4, 2, 0), (1, 3, 2)] {
        let what = format!("groups {groups}, stride {stride}, padding {padding}");
        let algorithm = Some(candle_core::conv::CudnnFwdAlgo::ImplicitGemm);
        let config =
            Conv1dConfig { groups, stride, padding, dilation: 1, cudnn_fwd_algo: algorithm };
        let (w, b) = (tensor(&[4, 4 / groups, 3], 1), Some(tensor(&[4], 2)));
        let ours = hypernn::nn::Conv1d::new(w.clone(), b.clone(), config);
        let candles = candle_nn::Conv1d::new(w, b.clone(), config);
        for dims in [&[1, 4, 3][..], &[2, 4, 7]] {
            let xs = tensor(dims, 3);
            same(&format!("{what} {dims:?}"), ours.forward(&xs), candles.forward(&xs))?;
        }
        let config =
            Conv2dConfig { groups, stride, padding, dilation: 1, cudnn_fwd_algo: algorithm };
        let w = tensor(&[4, 4 / groups, 3, 3], 1);
        let ours = hypernn::nn::Conv2d::new(w.clone(), b.clone(), config);
        let candles = candle_nn::Conv2d::new(w, b.clone(), config);
        for dims in [&[1, 4, 3, 3][..], &[2, 4, 5, 7]] {
            for xs in orders(tensor(dims, 3))? {
                same(&format!("{what} {dims:?}"), ours.forward(&xs), candles.forward(&xs))?;
            }
        }
        let config = ConvTranspose1dConfig { groups, stride, ..Default::default() };
        let w = tensor(&[4, 4 / groups, 3], 1);
        let ours = hypernn::nn::ConvTranspose1d::new(w.clone(), b.clone(), config);
        let candles = candle_nn::ConvTranspose1d::new(w, b.clone(), config);
        let xs = tensor(&[1, 4, 2], 3);
        same(&what, ours.forward(&xs), candles.forward(&xs))?;
        let config = ConvTranspose2dConfig { stride, ..Default::default() };
        let w = tensor(&[4, 4, 3, 3], 1);
        let ours = hypernn::nn::ConvTranspose2d::new(w.clone(), b.clone(), config);
        let candles = candle_nn::ConvTranspose2d::new(w, b, config);
        for dims in [&[1, 4, 1, 1][..], &[2, 4, 2, 3]] {
            let xs = tensor(dims, 3);
            same(&format!("{what} {dims:?}"), ours.forward(&xs), candles.forward(&xs))?;
        }
    }
    Ok(())
}

/// candle's convolutions panic for a batch of nothing on the CPU, and are errors on CUDA.
#[test]
fn convolutions_of_nothing() -> Result<()> {
    if !device().is_cpu() {
        // There ours are candle's.
        return Ok(());
    }
    let bias = Some(tensor(&[4], 2));
    let layer = hypernn::nn::Conv1d::new(tensor(&[4, 4, 3], 1), bias.clone(), Default::default());
    assert_eq!(layer.forward(&tensor(&[0, 4, 7], 3))?.dims(), [0, 4, 5]);
    let weight = tensor(&[4, 4, 3, 3], 1);
    let layer = hypernn::nn::Conv2d::new(weight.clone(), bias.clone(), Default::default());
    assert_eq!(layer.forward(&tensor(&[0, 4, 7, 6], 3))?.dims(), [0, 4, 5, 4]);
    let layer = hypernn::nn::ConvTranspose2d::new(weight, bias.clone(), Default::default());
    assert_eq!(layer.forward(&tensor(&[0, 4, 2, 3], 3))?.dims(), [0, 4, 4, 5]);
    let layer = hypernn::nn::ConvTranspose1d::new(tensor(&[4, 4, 3], 1), bias, Default::default());
    assert_eq!(layer.forward(&tensor(&[0, 4, 2], 3))?.dims(), [0, 4, 4]);
    Ok(())
}

#[test]
fn embedding() -> Result<()> {
    let table = tensor(&[5, 3], 1);
    let ours = hypernn::nn::Embedding::new(table.clone(), 3);
    let candles = candle_nn::Embedding::new(table, 3);
    assert_eq!(ours.hidden_size(), candles.hidden_size());
    for dims in [&[][..], &[1], &[0], &[2, 3], &[2, 0], &[1, 1, 2]] {
        let count = dims.iter().product::<usize>() as u32;
        let ids = Tensor::from_vec((0..count).map(|i| i % 5).collect(), dims, device())?;
        same(&format!("{dims:?}"), ours.forward(&ids), candles.forward(&ids))?;
    }
    Ok(())
}

#[test]
fn prelu() -> Result<()> {
    for (slopes, scalar) in [(1, true), (1, false), (3, false)] {
        let weight = tensor(&[slopes], 1);
        let ours = hypernn::nn::PReLU::new(weight.clone(), scalar);
        let candles = candle_nn::PReLU::new(weight, scalar);
        for dims in [&[1, 3][..], &[0, 3], &[3], &[2, 3, 2], &[1, 1], &[1]] {
            let xs = tensor(dims, 3);
            let what = format!("{slopes} {scalar} {dims:?}");
            same(&what, ours.forward(&xs), candles.forward(&xs))?;
        }
    }
    Ok(())
}

#[test]
fn recurrent() -> Result<()> {
    use candle_nn::rnn::Direction;
    use candle_nn::{GRUConfig, LSTMConfig};
    let shapes: [&[usize]; 5] = [&[1, 1, 3], &[2, 4, 3], &[0, 2, 3], &[2, 0, 3], &[1, 3, 3]];
    for (direction, layer_idx) in [(Direction::Forward, 0), (Direction::Backward, 2)] {
        let config = LSTMConfig { direction, layer_idx, ..Default::default() };
        let (_vars, vb) = variables(0, DType::F32);
        let ours = hypernn::nn::lstm(3, 2, config, vb.clone())?;
        let candles = candle_nn::lstm(3, 2, config, vb)?;
        for dims in shapes {
            for xs in orders(tensor(dims, 3))? {
                let what = format!("lstm {dims:?}");
                if xs.elem_count() == 0 && !device().is_cpu() {
                    // candle's own panics there.
                    ours.seq(&xs)?;
                    continue;
                }
                let a = ours.seq(&xs).and_then(|states| ours.states_to_tensor(&states));
                let b = candles.seq(&xs).and_then(|states| candles.states_to_tensor(&states));
                same(&what, a, b)?;
            }
        }
        let init = candle_nn::rnn::LSTMState::new(tensor(&[2, 2], 7), tensor(&[2, 2], 8));
        let xs = tensor(&[2, 3, 3], 3);
        let (a, b) = (ours.seq_init(&xs, &init)?, candles.seq_init(&xs, &init)?);
        same("seq_init", ours.states_to_tensor(&a), candles.states_to_tensor(&b))?;
    }
    let (_vars, vb) = variables(0, DType::F32);
    let ours = hypernn::nn::gru(3, 2, GRUConfig::default(), vb.clone())?;
    let candles = candle_nn::gru(3, 2, GRUConfig::default(), vb)?;
    for dims in shapes {
        let (what, xs) = (format!("gru {dims:?}"), tensor(dims, 3));
        if xs.elem_count() == 0 && !device().is_cpu() {
            ours.seq(&xs)?;
            continue;
        }
        let a = ours.seq(&xs).and_then(|states| ours.states_to_tensor(&states));
        let b = candles.seq(&xs).and_then(|states| candles.states_to_tensor(&states));
        same(&what, a, b)?;
    }
    Ok(())
}

/// The paths that candle's users write, modules included.
#[test]
#[allow(unused_imports)]
fn paths_are_candles() -> Result<()> {
    use hypernn::nn::activation::{Activation, PReLU};
    use hypernn::nn::batch_norm::{BatchNorm, BatchNormConfig};
    use hypernn::nn::conv::{
        Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, ConvTranspose1d, ConvTranspose1dConfig,
        ConvTranspose2d, ConvTranspose2dConfig, conv_transpose1d, conv_transpose2d, conv1d,
        conv2d_no_bias,
    };
    use hypernn::nn::embedding::Embedding;
    use hypernn::nn::encoding::one_hot;
    use hypernn::nn::func::{Func, FuncT};
    use hypernn::nn::group_norm::GroupNorm;
    use hypernn::nn::init::Init;
    use hypernn::nn::kv_cache::KvCache;
    use hypernn::nn::layer_norm::{LayerNorm, LayerNormConfig, RmsNorm, rms_norm};
    use hypernn::nn::linear::{Linear, linear, linear_b, linear_no_bias};
    use hypernn::nn::loss::cross_entropy;
    use hypernn::nn::ops::softmax;
    use hypernn::nn::optim::{AdamW, Optimizer, ParamsAdamW, SGD};
    use hypernn::nn::rnn::{Direction, GRU, GRUConfig, GRUState, LSTM, LSTMState, RNN};
    use hypernn::nn::rotary_emb::rope_slow;
    use hypernn::nn::sampling::gumbel_softmax;
    use hypernn::nn::sequential::{Sequential, seq};
    use hypernn::nn::var_builder::{SimpleBackend, VarBuilder};
    use hypernn::nn::var_map::VarMap;
    use hypernn::nn::{attention, cpu_flash_attention, moe, varlen_attention};

    // A model of nothing but these.
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, device());
    let net = seq()
        .add(linear(3, 4, vb.pp("a"))?)
        .add(Activation::Relu)
        .add_fn(|xs| xs.sqr())
        .add(hypernn::nn::func(|xs| xs.sqrt()))
        .add(linear_no_bias(4, 2, vb.pp("b"))?);
    assert_eq!(net.forward(&tensor(&[1, 3], 0))?.dims(), [1, 2]);
    Ok(())
}

#[test]
fn a_builder_without_a_tensor_is_an_error_as_in_candle() {
    let vb = VarBuilder::from_tensors([].into(), DType::F32, device());
    assert!(hypernn::nn::linear(3, 4, vb).is_err());
}
