//! A generator whose size depends on names, where sizes are constants.

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
        embedding: table(1, 3),
        generator: per_module(8, [16], gelu),
        mode: static,
    }
}

fn main() {}
