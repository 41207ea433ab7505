//! An input in the place of a sequence.

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
        embedding: perceiver(4, 5, 8, 1, 2),
        generator: linear,
        mode: dynamic,
    }
}

fn apply(hyper: &HyperNet, xs: &Tensor) -> Result<Tensor> {
    hyper.forward(xs)
}

fn main() {}
