//! A number in place of the embedding of a dynamic hypernetwork.

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
        embedding: 7,
        generator: linear,
        mode: dynamic,
    }
}

fn main() {}
