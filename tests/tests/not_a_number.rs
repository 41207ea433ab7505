//! What is not a number stays so: a broken input, weight or embedding reaches the loss and the gradients.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Module, Result, Tensor, Var};
use hypernn::nn::{Conv2d, GRU, LSTM, Linear, PReLU, RNN};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_tests::{device, gradients, values, variable, variables};

/// A target of one step or layer behind a linear layer, of 2 × 4 × 4 values.
macro_rules! nets {
    ($($name:ident: [$($step:tt)+]),+ $(,)?) => {
        $(mod $name {
            use super::*;

            #[derive(HyperTarget)]
            #[hyper(sequential = [fc, reshape([2, 4, 4]), $($step)+, flatten], input = 3)]
            struct Net {
                #[hyper(linear(3, 32))]
                fc: Linear,
            }

            hypernetwork! {
                struct Hyper for Net { embedding: table(8, 3), generator: linear, mode: static }
            }

            #[test]
            fn keeps_what_is_not_a_number() -> Result<()> {
                for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
                    let (vars, vb) = variables(1, dtype);
                    let hyper = Hyper::new(vb)?;
                    let xs = Tensor::new(&[[1f32, f32::NAN, 2.], [1., 2., 3.]], device())?;
                    let ys = hyper.forward(&xs.to_dtype(dtype)?)?;
                    let rows = [ys.get(0)?, ys.get(1)?].map(|row| values(&row).unwrap());
                    assert!(rows[0].iter().all(|y| y.is_nan()), "{dtype:?}: {ys}");
                    assert!(rows[1].iter().all(|y| y.is_finite()), "{dtype:?}: {ys}");
                    let grads = gradients(&vars, &ys.sum_all()?)?;
                    let found = grads.values().map(|grad| values(grad).unwrap());
                    assert!(found.flatten().any(|grad| grad.is_nan()), "{dtype:?}");
                }
                Ok(())
            }
        })+
    };
}

nets! {
    relu: [relu],
    gelu: [gelu],
    silu: [silu],
    tanh: [tanh],
    sigmoid: [sigmoid],
    softmax: [softmax],
    log_softmax: [log_softmax],
    max_pool: [max_pool2d(2)],
    avg_pool: [avg_pool2d(2)],
    global_avg_pool: [global_avg_pool2d],
    pools_behind_each_other: [relu, max_pool2d(2), relu, avg_pool2d(2)],
}

#[derive(HyperTarget)]
#[hyper(sequential = [conv, slopes, flatten, out], input = (1, 3, 3))]
struct Kernel {
    #[hyper(conv2d(1, 2, 2))]
    conv: Conv2d,
    #[hyper(prelu(Some(2)))]
    slopes: PReLU,
    #[hyper(linear(8, 1))]
    out: Linear,
}

hypernetwork! {
    struct HyperKernel for Kernel {
        embedding: encoder(1, [5], relu, 7, 3),
        generator: mlp([6], relu),
        mode: dynamic,
    }
}

/// A condition passes the rectifiers of encoder and generator.
#[test]
fn conditions() -> Result<()> {
    let (_, vb) = variables(2, DType::F32);
    let hyper = HyperKernel::new(vb)?;
    let condition = Tensor::new(&[[f32::NAN], [0.5]], device())?;
    let params = hyper.generate_params(&condition)?;
    let ys = values(&params.forward(&Tensor::ones((2, 1, 3, 3), DType::F32, device())?)?)?;
    assert!(ys[0].is_nan() && ys[1].is_finite(), "{ys:?}");
    Ok(())
}

/// One weight of the generator that is broken.
#[test]
fn weights() -> Result<()> {
    let (vars, vb) = variables(2, DType::F32);
    let hyper = HyperKernel::new(vb)?;
    let broken = variable(&vars, "generator.0.weight")?;
    broken.set(&broken.affine(0., f64::NAN)?)?;
    let condition = Tensor::new(&[0.5f32], device())?;
    let params = hyper.generate_params(&condition)?;
    assert!(params.check_finite().is_err());
    let ys = params.forward(&Tensor::ones((2, 1, 3, 3), DType::F32, device())?)?;
    assert!(values(&ys)?.into_iter().all(f64::is_nan));
    Ok(())
}

#[test]
fn recurrent_layers_and_slopes() -> Result<()> {
    let vb = || variables(3, DType::F32).1;
    let xs = Var::new(&[[[1f32, f32::NAN], [1., 1.]]], device())?;
    let gru = GRU::new(2, 3, hypernn::nn::GRUConfig::default(), vb())?;
    let lstm = LSTM::new(2, 3, hypernn::nn::LSTMConfig::default(), vb())?;
    let of_gru = gru.seq(&xs)?[1].h().clone();
    let of_lstm = lstm.seq(&xs)?[1].h().clone();
    let slopes = PReLU::new(Tensor::zeros(1, DType::F32, device())?, true);
    let of_slopes = slopes.forward(&xs)?.get(0)?.get(0)?.get(1)?;
    for ys in [of_gru, of_lstm, of_slopes] {
        assert!(values(&ys)?.into_iter().all(f64::is_nan), "{ys}");
    }
    Ok(())
}
