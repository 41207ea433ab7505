//! A linear layer of no outputs.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear_no_bias(4, 0))]
    layer: Linear,
}

fn main() {}
