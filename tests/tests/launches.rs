//! What a device is launched for: the tables of `docs/cuda.md`, row by row.
//!
//! Launches are counted by the stand-in of `ci/cuda-cpu`; elsewhere there is nothing to count.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

use candle_core::{D, DType, Module, Result, Tensor};
use hypernn::{GeneratedParams, HyperTarget, hypernetwork, nn};
use hypernn_tests::launches::{Asked, are_counted, asked};
use hypernn_tests::{by_name, device, input, variables, weighted_sum};

/// Whether there is something to count; a line says so where there is not.
fn counted() -> bool {
    let counted = are_counted().unwrap();
    if !counted {
        eprintln!("skipped: launches are counted by ci/cuda-cpu/run.sh alone");
    }
    counted
}

/// What `work` asks for, once all that is made once is there.
fn of<T>(work: impl Fn() -> Result<T>) -> Result<Asked> {
    work()?;
    Ok(asked(work)?.1)
}

#[derive(HyperTarget)]
#[hyper(sequential = [first, second, third])]
struct Three {
    #[hyper(linear(12, 9))]
    first: nn::Linear,
    #[hyper(linear(9, 7))]
    second: nn::Linear,
    #[hyper(linear(7, 2))]
    third: nn::Linear,
}

hypernetwork! {
    struct Unscaled for Three {
        embedding: table(9, 5),
        generator: linear,
        mode: static,
        init: hyper_nn,
    }
}

hypernetwork! {
    struct Scaled for Three { embedding: table(9, 5), generator: linear, mode: static }
}

/// Generating the tensors of a static target: a product and its bias, a scale where there is one, a cast
/// where there is one, and nothing for six tensors or for the node that collects their gradients.
#[test]
fn generating() -> Result<()> {
    if !counted() {
        return Ok(());
    }
    let unscaled = || Unscaled::new(variables(1, DType::F32).1);
    let hyper = unscaled()?;
    let generated = of(|| hyper.generate_params())?;
    assert_eq!(generated.launches, ["product", "badd_f32"]);
    // The shape of the bias, which is spread.
    assert_eq!(generated.transfers, 1);
    let hyper = unscaled()?.with_target_dtype(DType::BF16)?;
    let generated = of(|| hyper.generate_params())?;
    assert_eq!(generated.launches, ["product", "badd_f32", "cast_f32_bf16"]);
    let hyper = Scaled::new(variables(1, DType::F32).1)?.with_target_dtype(DType::F16)?;
    let generated = of(|| hyper.generate_params())?;
    assert_eq!(generated.launches, ["product", "badd_f32", "bmul_f32", "cast_f32_f16"]);
    assert_eq!(generated.transfers, 1);
    Ok(())
}

#[derive(HyperTarget)]
struct Norms {
    #[hyper(layer_norm(6))]
    layer: nn::LayerNorm,
    #[hyper(rms_norm(6, 1e-5))]
    rms: nn::RmsNorm,
}

impl Module for Norms {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.layer.forward(&self.rms.forward(xs)?)
    }
}

hypernetwork! {
    struct HyperNorms for Norms { embedding: table(3, 5), generator: linear, mode: static }
}

/// A tensor that starts at a constant costs one launch more, or two.
#[test]
fn constants() -> Result<()> {
    if !counted() {
        return Ok(());
    }
    let hyper = HyperNorms::new(variables(1, DType::F32).1)?;
    let asked = of(|| hyper.generate_params())?;
    let tensors = hyper.generate_params()?.tensors().count();
    let more = asked.count() - ["product", "bias", "scale"].len();
    assert!((tensors..=2 * tensors).contains(&more), "{asked:?}");
    Ok(())
}

/// Gradients are joined by a copy for each tensor, and scaled at once.
#[test]
fn joining_gradients() -> Result<()> {
    if !counted() {
        return Ok(());
    }
    let hyper = Scaled::new(variables(1, DType::F32).1)?;
    let xs = input(&[4, 12], 2, DType::F32)?;
    let ys = weighted_sum(&hyper.forward(&xs)?)?;
    let (_, asked) = asked(|| ys.backward())?;
    // Six tensors, and what is generated beyond the last.
    assert_eq!(asked.of("copy"), 6 + 1, "{asked:?}");
    let at = asked.launches.iter().rposition(|name| name.starts_with("copy")).unwrap();
    assert_eq!(asked.launches[at + 1], "bmul_f32", "{asked:?}");
    Ok(())
}

/// A target of one layer, how many launches it takes, and candle's own layer over the same weights, which takes no
/// fewer.
macro_rules! layers {
    ($($name:ident, $count:literal: $layer:ty, $spec:expr, $xs:expr, |$tensors:ident, $x:ident| $candles:expr;)+) => {
        $(mod $name {
            use super::*;

            #[derive(HyperTarget)]
            struct One {
                #[hyper($spec)]
                layer: $layer,
            }

            impl Module for One {
                fn forward(&self, xs: &Tensor) -> Result<Tensor> {
                    self.layer.forward(xs)
                }
            }

            /// Over views of one vector, with and without gradients to come.
            #[test]
            fn launches_no_more_than_candles() -> Result<()> {
                if !counted() {
                    return Ok(());
                }
                let flat = input(&[One::NUM_PARAMS], 3, DType::F32)?;
                let var = candle_core::Var::from_tensor(&flat)?;
                let $x: Tensor = $xs?;
                for flat in [&flat, var.as_tensor()] {
                    let params = GeneratedParams::<One>::from_flat(&(), flat)?;
                    let ours = of(|| params.forward(&$x))?;
                    let $tensors: Vec<Tensor> =
                        params.tensors().map(|(_, tensor)| tensor.detach()).collect();
                    let candles = of(|| $candles)?;
                    assert!(ours.is_at_most(&candles), "{ours:?}, candle {candles:?}");
                    assert_eq!(ours.count(), $count, "{ours:?}");
                }
                Ok(())
            }
        })+
    };
}

layers! {
    linear, 2: nn::Linear, linear(6, 4), input(&[3, 6], 1, DType::F32), |t, x|
        candle_nn::Linear::new(t[0].clone(), Some(t[1].clone())).forward(&x);
    conv1d, 4: nn::Conv1d, conv1d(2, 4, 3), input(&[3, 2, 6], 1, DType::F32), |t, x|
        candle_nn::Conv1d::new(t[0].clone(), Some(t[1].clone()), Default::default()).forward(&x);
    conv2d, 4: nn::Conv2d, conv2d(2, 4, 3), input(&[3, 2, 6, 5], 1, DType::F32), |t, x|
        candle_nn::Conv2d::new(t[0].clone(), Some(t[1].clone()), Default::default()).forward(&x);
    conv_transpose2d, 2: nn::ConvTranspose2d, conv_transpose2d(2, 4, 3), input(&[3, 2, 6, 5], 1, DType::F32), |t, x|
        candle_nn::ConvTranspose2d::new(t[0].clone(), Some(t[1].clone()), Default::default()).forward(&x);
    embedding, 1: nn::Embedding, embedding(5, 3), Tensor::new(&[0u32, 4, 2], device()), |t, x|
        candle_nn::Embedding::new(t[0].clone(), 3).forward(&x);
    prelu, 3: nn::PReLU, prelu(None), input(&[3, 6], 1, DType::F32), |t, x|
        candle_nn::PReLU::new(t[0].clone(), true).forward(&x);
    group_norm, 11: nn::GroupNorm, group_norm(2, 4, 1e-5), input(&[3, 4, 5], 1, DType::F32), |t, x|
        candle_core::ModuleT::forward_t(
            &candle_nn::GroupNorm::new(t[0].clone(), t[1].clone(), 4, 2, 1e-5)?, &x, true);
}

/// The three layers by hand in candle: views of a vector at their places.
fn by_hand(flat: &Tensor, xs: &Tensor) -> Result<Tensor> {
    let (mut ys, mut start) = (xs.clone(), 0);
    for (inputs, outputs) in [(12, 9), (9, 7), (7, 2)] {
        let weight = flat.narrow(0, start, inputs * outputs)?.reshape((outputs, inputs))?;
        let bias = flat.narrow(0, start + inputs * outputs, outputs)?;
        ys = ys.matmul(&weight.t()?)?.broadcast_add(&bias)?;
        start += (inputs + 1) * outputs;
    }
    Ok(ys)
}

/// Forward and backward of a static hypernetwork, beside the same in candle.
#[test]
fn a_step_of_training() -> Result<()> {
    if !counted() {
        return Ok(());
    }
    let (vars, vb) = variables(1, DType::F32);
    let hyper = Unscaled::new(vb)?;
    let xs = input(&[4, 12], 2, DType::F32)?;
    let named = by_name(&vars);
    let of_hand = || {
        let rows = named["embedding.weight"].matmul(&named["generator.weight"].t()?)?;
        let rows = rows.broadcast_add(named["generator.bias"].as_tensor())?;
        by_hand(&rows.flatten_all()?.narrow(D::Minus1, 0, Three::NUM_PARAMS)?, &xs)
    };
    let ours = of(|| hyper.forward(&xs))?;
    assert_eq!(ours.count(), of(of_hand)?.count());
    assert_eq!(ours.count(), 2 + 3 * 2, "{ours:?}");
    let ours = of(|| hyper.forward(&xs)?.sum_all()?.backward())?;
    let of_hand = of(|| of_hand()?.sum_all()?.backward())?;
    assert!(ours.count() < of_hand.count(), "{ours:?}, by hand {of_hand:?}");
    Ok(())
}
