//! An input with a dimension of 0.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [flatten, fc], input = (3, 0, 8))]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
