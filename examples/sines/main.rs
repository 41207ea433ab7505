//! A network per sine: the condition (amplitude and phase) generates the weights of a small network
//! that draws that sine, for conditions that were never trained on.
//!
//! `cargo run --release --example sines`
//!
//! It shows the batch meanings of a dynamic hypernetwork: a set of weights per task with many rows
//! each in training, and one set for all rows at the end.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use clap::Parser;
use hypernn::nn::{AdamW, Linear, Module, Optimizer, VarMap, loss};
use hypernn::{HyperTarget, hypernetwork, seeded};
use hypernn_examples::args::Common;
use hypernn_examples::report::write_json;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

/// A curve: from `x` to `y`.
#[derive(HyperTarget)]
struct Curve {
    #[hyper(linear(1, 32))]
    hidden: Linear,
    #[hyper(linear(32, 1))]
    output: Linear,
}

impl Module for Curve {
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        self.output.forward(&self.hidden.forward(xs)?.tanh()?)
    }
}

hypernetwork! {
    /// From amplitude and phase to a curve.
    struct HyperCurve for Curve {
        embedding: encoder(2, [64], gelu, 4, 8),
        generator: linear,
        mode: dynamic,
    }
}

/// Learns to draw sines of any amplitude and phase.
#[derive(Parser)]
struct Args {
    /// Training steps
    #[arg(long, default_value_t = 3000)]
    steps: usize,

    /// Highest learning rate
    #[arg(long, default_value_t = 0.01)]
    learning_rate: f64,

    /// Options that every example has.
    #[command(flatten)]
    common: Common,
}

/// Curves in a training step, and points on each.
const CURVES: usize = 32;
const POINTS: usize = 16;

/// Draws curves: conditions `[curves, 2]` and, a run of rows for each, `x` and `y`
/// `[curves × points, 1]`.
fn draw(rng: &mut StdRng, curves: usize, points: usize, device: &Device) -> Result<[Tensor; 3]> {
    let (mut conditions, mut xs, mut ys) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..curves {
        let (amplitude, phase) = (rng.random_range(0.5f32..2.), rng.random_range(-1.5f32..1.5));
        conditions.extend([amplitude, phase]);
        for _ in 0..points {
            let x = rng.random_range(-3f32..3.);
            xs.push(x);
            ys.push(amplitude * (x + phase).sin());
        }
    }
    let column = |values| Tensor::from_vec(values, (curves * points, 1), device);
    Ok([Tensor::from_vec(conditions, (curves, 2), device)?, column(xs)?, column(ys)?])
}

/// Root mean square error over curves that were not trained on.
fn error(hyper: &HyperCurve, device: &Device) -> Result<f32> {
    let [conditions, xs, ys] = draw(&mut StdRng::seed_from_u64(u64::MAX), 200, 50, device)?;
    let params = hyper.generate_params(&conditions)?;
    let mean_square = loss::mse(&params.forward(&xs)?, &ys)?;
    Ok(mean_square.to_scalar::<f32>()?.sqrt())
}

#[derive(Serialize)]
struct Summary {
    error_before: f32,
    error: f32,
    num_params: usize,
    num_target_params: usize,
    steps: usize,
    seed: u64,
}

fn main() -> Result<()> {
    let Args { steps, learning_rate, common } = Args::parse();
    let (device, out) = (common.device.open()?, common.out_dir("sines")?);
    let steps = if common.quick { steps.min(200) } else { steps };
    let vars = VarMap::new();
    let hyper = HyperCurve::new(seeded::var_builder(&vars, common.seed, DType::F32, &device))?;
    println!("{hyper:#?}");
    let error_before = error(&hyper, &device)?;

    let mut rng = StdRng::seed_from_u64(common.seed);
    let mut optimizer = AdamW::new_lr(hyper.trainable(), learning_rate)?;
    for step in 0..steps {
        let [conditions, xs, ys] = draw(&mut rng, CURVES, POINTS, &device)?;
        let params = hyper.generate_params(&conditions)?;
        let loss = loss::mse(&params.forward(&xs)?, &ys)?;
        let left = 1. - step as f64 / steps as f64;
        optimizer.set_learning_rate(learning_rate * left);
        optimizer.backward_step(&loss)?;
        if step % 500 == 0 {
            println!("step {step}: loss {:.4}", loss.to_scalar::<f32>()?);
        }
    }

    let error = error(&hyper, &device)?;
    println!("root mean square error over new sines: {error_before:.3} before, {error:.3} after");
    let one = Tensor::new(&[1f32, 0.], &device)?;
    hyper.export(&one, out.join("sine.safetensors"))?;
    println!("the network that draws sin(x) is in {}", out.join("sine.safetensors").display());
    let (num_params, num_target_params) = (HyperCurve::NUM_PARAMS, HyperCurve::NUM_TARGET_PARAMS);
    let seed = common.seed;
    let summary = Summary { error_before, error, num_params, num_target_params, steps, seed };
    write_json(&out.join("summary.json"), &summary)
}
