//! A deep target: 64 × (Linear(128, 128), ReLU), from 64 embeddings of width 16, batch 64.
//!
//! `cargo bench -p hypernn-benches --bench static_deep`

#![allow(missing_docs, reason = "a benchmark")]

use candle_core::{DType, Device, Result, Tensor};
use hypernn::nn::{Linear, Module, VarMap};
use hypernn::{HyperTarget, hypernetwork, seeded};
use hypernn_benches::{Case, Times, measure};

const ROUNDS: usize = 61;
const LAYERS: usize = 64;
const WIDTH: usize = 128;
const BATCH: usize = 64;

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(WIDTH, WIDTH); LAYERS])]
    layers: Vec<Linear>,
}

#[derive(HyperTarget)]
struct CandleNet {
    #[hyper([linear(WIDTH, WIDTH); LAYERS])]
    layers: Vec<candle_nn::Linear>,
}

fn deep<L: Module>(layers: &[L], xs: &Tensor) -> Result<Tensor> {
    layers.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs)?.relu())
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        deep(&self.layers, xs)
    }
}

impl Module for CandleNet {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        deep(&self.layers, xs)
    }
}

hypernetwork! {
    struct Hyper for Net {
        embedding: table(64, 16),
        generator: linear,
        mode: static,
    }
}

hypernetwork! {
    struct CandleHyper for CandleNet {
        embedding: table(64, 16),
        generator: linear,
        mode: static,
    }
}

/// One step without the optimiser: forward, loss, gradients of all variables.
fn step(net: &dyn Module, xs: &Tensor) -> Result<candle_core::backprop::GradStore> {
    net.forward(xs)?.sqr()?.mean_all()?.backward()
}

fn main() -> Result<()> {
    let vars: [VarMap; 4] = std::array::from_fn(|_| VarMap::new());
    let vb = |i: usize| seeded::var_builder(&vars[i], i as u64, DType::F32, &Device::Cpu);
    let nets = [
        Box::new(Net::new(vb(0))?) as Box<dyn Module>,
        Box::new(Hyper::new(vb(1))?),
        Box::new(CandleNet::new(vb(2))?),
        Box::new(CandleHyper::new(vb(3))?),
    ];
    let xs = Tensor::randn(0f32, 1., (BATCH, WIDTH), &Device::Cpu)?;
    let params = Hyper::NUM_TARGET_PARAMS;
    println!("{LAYERS} x (Linear({WIDTH}, {WIDTH}), ReLU), batch {BATCH}, {ROUNDS} rounds");
    println!("{params} parameters from 64 embeddings of width 16");
    report("forward", &nets.each_ref().map(|net| Case::new(|| net.forward(&xs))))?;
    report("forward + backward", &nets.each_ref().map(|net| Case::new(|| step(&**net, &xs))))
}

fn report(title: &str, cases: &[Case<'_>; 4]) -> Result<()> {
    let [own, hyper, candle_own, candle_hyper] = measure(cases, ROUNDS)?[..] else {
        unreachable!("there are four cases")
    };
    Times::print_head(title);
    own.print_line("hypernn::nn::Linear, own weights", own);
    hyper.print_line("hypernn::nn::Linear, hypernetwork", own);
    candle_own.print_line("candle_nn::Linear, own weights", candle_own);
    candle_hyper.print_line("candle_nn::Linear, hypernetwork", candle_own);
    Ok(())
}
