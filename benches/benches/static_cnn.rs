//! A convolutional target: the network of hyper-nn's MNIST notebook, 77,066 parameters from 511
//! embeddings of width 4, batch 64.
//!
//! `cargo bench -p hypernn-benches --bench static_cnn`

#![allow(missing_docs, reason = "a benchmark")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor};
use hypernn::nn::{Conv2d, Module, VarMap};
use hypernn::{HyperTarget, hypernetwork, seeded};
use hypernn_benches::{Case, Times, measure};

const ROUNDS: usize = 21;
const BATCH: usize = 64;

#[derive(HyperTarget)]
struct Net {
    #[hyper([conv2d(1, 64, 3, stride = 2), conv2d(64, 64, 3, stride = 2), conv2d(64, 64, 3, stride = 2)])]
    hidden: [Conv2d; 3],
    #[hyper(conv2d(64, 10, 2, stride = 2))]
    last: Conv2d,
}

#[derive(HyperTarget)]
struct CandleNet {
    #[hyper([conv2d(1, 64, 3, stride = 2), conv2d(64, 64, 3, stride = 2), conv2d(64, 64, 3, stride = 2)])]
    hidden: [candle_nn::Conv2d; 3],
    #[hyper(conv2d(64, 10, 2, stride = 2))]
    last: candle_nn::Conv2d,
}

fn classify<L: Module>(hidden: &[L], last: &L, xs: &Tensor) -> Result<Tensor> {
    let xs = hidden.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs)?.relu())?;
    last.forward(&xs)?.flatten_from(1)
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        classify(&self.hidden, &self.last, xs)
    }
}

impl Module for CandleNet {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        classify(&self.hidden, &self.last, xs)
    }
}

hypernetwork! {
    struct Hyper for Net {
        embedding: table(511, 4),
        generator: mlp([32], tanh),
        mode: static,
    }
}

hypernetwork! {
    struct CandleHyper for CandleNet {
        embedding: table(511, 4),
        generator: mlp([32], tanh),
        mode: static,
    }
}

/// One step without the optimiser: forward, loss, gradients of all variables.
fn step(net: &dyn Module, xs: &Tensor, digits: &Tensor) -> Result<GradStore> {
    candle_nn::loss::cross_entropy(&net.forward(xs)?, digits)?.backward()
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
    let xs = Tensor::randn(0f32, 1., (BATCH, 1, 28, 28), &Device::Cpu)?;
    let digits = Tensor::from_iter((0..BATCH as u32).map(|i| i % 10), &Device::Cpu)?;
    let params = Hyper::NUM_TARGET_PARAMS;
    println!("the MNIST notebook's network, {params} parameters, batch {BATCH}, {ROUNDS} rounds");
    report("forward", &nets.each_ref().map(|net| Case::new(|| net.forward(&xs))))?;
    let steps = nets.each_ref().map(|net| Case::new(|| step(&**net, &xs, &digits)));
    report("forward + backward", &steps)
}

fn report(title: &str, cases: &[Case<'_>; 4]) -> Result<()> {
    let [own, hyper, candle_own, candle_hyper] = measure(cases, ROUNDS)?[..] else {
        unreachable!("there are four cases")
    };
    Times::print_head(title);
    own.print_line("hypernn::nn::Conv2d, own weights", own);
    hyper.print_line("hypernn::nn::Conv2d, hypernetwork", own);
    candle_own.print_line("candle_nn::Conv2d, own weights", own);
    candle_hyper.print_line("candle_nn::Conv2d, hypernetwork", own);
    Ok(())
}
