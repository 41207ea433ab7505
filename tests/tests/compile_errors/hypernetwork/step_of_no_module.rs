//! A step of a sequence over a target that is no `Module`.

use candle_core::{Result, Tensor};
use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: rnn(3, 5, 8),
        generator: linear,
        mode: dynamic,
    }
}

fn apply(hyper: &HyperNet, xs: &Tensor) -> Result<Tensor> {
    Ok(hyper.step(xs, &hyper.zero_state(1)?)?.0)
}

fn main() {}
