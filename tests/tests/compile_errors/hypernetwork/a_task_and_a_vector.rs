//! One part that takes a task, and one that takes a vector.

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
        embedding: tasks(4, 6, 3),
        generator: mlp([8], tanh).conditioned(5),
        mode: dynamic,
    }
}

fn main() {}
