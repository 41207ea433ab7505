//! A linear layer of no inputs.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(0, 2))]
    layer: Linear,
}

fn main() {}
