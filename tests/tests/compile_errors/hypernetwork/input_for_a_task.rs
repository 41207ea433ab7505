//! An input in the place of a task's number.

use candle_core::{Result, Tensor};
use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: tasks(3, 5, 4),
        generator: linear,
        mode: dynamic,
    }
}

fn apply(hyper: &HyperNet, xs: &Tensor) -> Result<Tensor> {
    hyper.forward(xs)
}

fn main() {}
