//! The same number of parameters in 2, 8, 32 and 128 tensors: what the split costs must not grow
//! with their number.
//!
//! `cargo bench -p hypernn-benches --bench splits`

#![allow(missing_docs, reason = "a benchmark")]

use candle_core::{DType, Device, Result, Tensor};
use hypernn::nn::{Linear, Module, VarBuilder, VarMap};
use hypernn::{HyperTarget, hypernetwork, seeded};
use hypernn_benches::{Case, Times, measure};

const ROUNDS: usize = 11;
const WIDTH: usize = 128;
const ROWS: usize = 8192;
const BATCH: usize = 64;

/// `ROWS` outputs, computed by `count` layers.
#[derive(Clone, Debug)]
struct Split {
    count: usize,
}

impl Split {
    fn rows(&self) -> usize {
        ROWS / self.count
    }
}

#[derive(HyperTarget)]
#[hyper(config = Split)]
struct Wide {
    #[hyper([linear_no_bias(WIDTH, config.rows()); config.count])]
    layers: Vec<Linear>,
}

impl Module for Wide {
    /// The sum over all outputs of their squares: the same work for every split.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        loss(self.layers.iter().map(|layer| layer.forward(xs)))
    }
}

hypernetwork! {
    struct Hyper for Wide {
        embedding: table(64, 16),
        generator: linear,
        mode: static,
        config: Split,
    }
}

/// The same by hand: candle's own layer, its values cut with `narrow`.
struct ByHand {
    split: Split,
    embedding: Tensor,
    generator: candle_nn::Linear,
}

impl ByHand {
    fn new(split: &Split, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            split: split.clone(),
            embedding: vb.get_with_hints((64, 16), "embedding", candle_nn::Init::Const(1.))?,
            generator: candle_nn::linear(16, ROWS * WIDTH / 64, vb.pp("generator"))?,
        })
    }
}

impl Module for ByHand {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let flat = self.generator.forward(&self.embedding)?.flatten_all()?;
        let rows = self.split.rows();
        let layer = |i: usize| {
            let weight = flat.narrow(0, i * rows * WIDTH, rows * WIDTH)?.reshape((rows, WIDTH))?;
            Linear::new(weight, None).forward(xs)
        };
        loss((0..self.split.count).map(layer))
    }
}

fn loss(outputs: impl Iterator<Item = Result<Tensor>>) -> Result<Tensor> {
    let squares = outputs.map(|ys| ys?.sqr()?.sum_all()).collect::<Result<Vec<_>>>()?;
    Tensor::stack(&squares, 0)?.sum_all()
}

fn main() -> Result<()> {
    println!("{} parameters, batch {BATCH}, forward + backward, {ROUNDS} rounds", ROWS * WIDTH);
    for count in [2, 8, 32, 128] {
        line(&Split { count })?;
    }
    Ok(())
}

fn line(split: &Split) -> Result<()> {
    let vars: [VarMap; 3] = std::array::from_fn(|_| VarMap::new());
    let vb = |i: usize| seeded::var_builder(&vars[i], i as u64, DType::F32, &Device::Cpu);
    let own = Wide::with_config(split, vb(0))?;
    let hyper = Hyper::new(split, vb(1))?;
    let by_hand = ByHand::new(split, &vb(2))?;
    let xs = Tensor::randn(0f32, 1., (BATCH, WIDTH), &Device::Cpu)?;
    let cases = [
        Case::new(|| own.forward(&xs)?.backward()),
        Case::new(|| hyper.forward(&xs)?.backward()),
        Case::new(|| by_hand.forward(&xs)?.backward()),
    ];
    let [own, hyper, by_hand] = measure(&cases, ROUNDS)?[..] else {
        unreachable!("there are three cases")
    };
    Times::print_head(&format!("{} tensors", split.count));
    own.print_line("own weights", own);
    hyper.print_line("hypernetwork", own);
    by_hand.print_line("by hand, with candle's narrow", own);
    Ok(())
}
