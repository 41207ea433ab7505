//! Adapters at the size of a small language model: what is generated for it, and a step of training with an adapter
//! for each sample beside one with an adapter that all share.
//!
//! The target has the matrices of SmolLM2-135M, 30 layers of width 576, without attention: products over tokens as
//! they are there. Adapters are of rank 8, on q and v.
//!
//! `cargo bench -p hypernn-benches --bench adapters` prints times, memory and the ratio of both steps.

#![allow(missing_docs, reason = "a benchmark")]

use std::collections::HashMap;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use hypernn::generated::TargetPlan;
use hypernn::nn::{Linear, Module, VarBuilder, VarMap};
use hypernn::{HyperTarget, hypernetwork, seeded};
use hypernn_benches::{Case, measure};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const LAYERS: usize = 30;
const WIDTH: usize = 576;
const KEYS: usize = 192;
const HIDDEN: usize = 1536;
const SAMPLES: usize = 16;
const TOKENS: usize = 12;
const CONDITION: usize = 64;
const ROUNDS: usize = 5;

#[derive(HyperTarget)]
struct Block {
    #[hyper(linear_no_bias(WIDTH, WIDTH))]
    q_proj: Linear,
    #[hyper(linear_no_bias(WIDTH, KEYS))]
    k_proj: Linear,
    #[hyper(linear_no_bias(WIDTH, KEYS))]
    v_proj: Linear,
    #[hyper(linear_no_bias(WIDTH, WIDTH))]
    o_proj: Linear,
    #[hyper(linear_no_bias(WIDTH, HIDDEN))]
    gate_proj: Linear,
    #[hyper(linear_no_bias(WIDTH, HIDDEN))]
    up_proj: Linear,
    #[hyper(linear_no_bias(HIDDEN, WIDTH))]
    down_proj: Linear,
}

impl Block {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mixed = (self.k_proj.forward(xs)? * self.v_proj.forward(xs)?)?;
        let mixed = (Tensor::cat(&[&mixed, &mixed, &mixed], 1)? + self.q_proj.forward(xs)?)?;
        let xs = (xs + self.o_proj.forward(&mixed)?)?;
        let gated = (self.gate_proj.forward(&xs)?.silu()? * self.up_proj.forward(&xs)?)?;
        xs + self.down_proj.forward(&gated)?
    }
}

#[derive(HyperTarget)]
#[hyper(config = usize)]
struct Decoder {
    #[hyper([target; *config])]
    layers: Vec<Block>,
}

impl Module for Decoder {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(xs.clone(), |xs, block| block.forward(&xs))
    }
}

hypernetwork! {
    struct HyperDecoder for Decoder {
        config: usize,
        roles: [("*.q_proj.weight", lora(8, 16.)), ("*.v_proj.weight", lora(8, 16.)), ("*", freeze)],
        embedding: encoder(CONDITION, [128], gelu, 1, 64),
        generator: per_module(64, [128], gelu),
        mode: dynamic,
    }
}

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

/// Prints the seconds of a part, and the peak of memory above what was in use.
fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (idle, start) = (ALLOCATOR.current_usage(), Instant::now());
    ALLOCATOR.reset_peak_usage();
    let result = work()?;
    let peak = ALLOCATOR.peak_usage().saturating_sub(idle);
    let ms = start.elapsed().as_secs_f64() * 1e3;
    println!("{what:44} {ms:10.1} ms {:10.1} MB", megabytes(peak));
    Ok(result)
}

fn pretrained() -> Result<VarBuilder<'static>> {
    let layout = TargetPlan::<Decoder>::new(&LAYERS)?.layout().clone();
    let tensor = |name: &str, dims: &candle_core::Shape| {
        let tensor = Tensor::randn(0f32, 0.02, dims.clone(), &Device::Cpu)?;
        Ok((name.to_owned(), tensor))
    };
    let tensors = layout.params().iter().map(|param| tensor(&param.name, &param.shape));
    let tensors = tensors.collect::<Result<HashMap<_, _>>>()?;
    Ok(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))
}

/// Steps of training with one condition for all rows, or with one for each sample.
fn step(hyper: &HyperDecoder, sets: Option<usize>) -> Result<impl Fn() -> Result<()>> {
    let dims: Vec<_> = sets.into_iter().chain([CONDITION]).collect();
    let condition = Tensor::randn(0f32, 1., dims, &Device::Cpu)?;
    let xs = Tensor::randn(0f32, 1., (SAMPLES * TOKENS, WIDTH), &Device::Cpu)?;
    let params = ParamsAdamW { lr: 1e-4, ..Default::default() };
    let optimizer = std::cell::RefCell::new(AdamW::new(hyper.trainable(), params)?);
    Ok(move || {
        let loss = hyper.generate_params(&condition)?.forward(&xs)?.sqr()?.mean_all()?;
        optimizer.borrow_mut().backward_step(&loss)
    })
}

fn main() -> Result<()> {
    let pretrained = timed("the base, random", pretrained)?;
    let plan = || TargetPlan::<Decoder>::new(&LAYERS);
    let layout = timed("its layout", || Ok(plan()?.layout().clone()))?;
    let base = layout.num_params() * size_of::<f32>();
    println!("{} tensors, {:.1} MB", layout.params().len(), megabytes(base));
    let vars = VarMap::new();
    let vb = seeded::var_builder(&vars, 0, DType::F32, &Device::Cpu);
    let hyper = timed("new_from", || HyperDecoder::new_from(&LAYERS, vb, pretrained))?;
    println!(
        "{} generated values, {} variables' values",
        hyper.num_target_params(),
        hyper.num_params()
    );
    for sets in [1, SAMPLES] {
        let condition = Tensor::randn(0f32, 1., (sets, CONDITION), &Device::Cpu)?;
        hyper.generate_params(&condition)?;
        timed(&format!("generate_params, {sets} sets"), || hyper.generate_params(&condition))?;
    }
    let (shared, own) = (step(&hyper, None)?, step(&hyper, Some(SAMPLES))?);
    shared()?;
    timed("a step, one adapter", &shared)?;
    own()?;
    timed("a step, an adapter for each sample", &own)?;
    let times = measure(&[Case::new(shared), Case::new(own)], ROUNDS)?;
    let (median, fastest) = times[1].over(times[0]);
    println!("ratio of the steps: {median:.3} (median), {fastest:.3} (fastest rounds)");
    Ok(())
}
