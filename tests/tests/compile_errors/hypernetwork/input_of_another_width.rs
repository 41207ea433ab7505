//! An input that conditions its own weights, of another width than the condition.

use candle_core::{Result, Tensor};
use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
#[hyper(sequential, input = 4)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: rnn(3, 5, 4),
        generator: linear,
        mode: dynamic,
    }
}

fn apply(hyper: &HyperNet, xs: &Tensor, condition: &Tensor) -> Result<Tensor> {
    let params = hyper.generate_params(condition)?;
    params.forward(xs)?;
    hyper.forward(xs)
}

fn main() {}
