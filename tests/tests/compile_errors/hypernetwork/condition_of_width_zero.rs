//! A condition of width 0.

use candle_core::{Module, Result, Tensor};
use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(8, 4))]
    fc: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.fc.forward(xs)
    }
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: gru(0, 6, 3),
        generator: linear,
        mode: dynamic,
    }
}

fn main() {}
