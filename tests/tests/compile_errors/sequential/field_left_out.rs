//! A field that the chain leaves out.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc1, relu])]
struct Net {
    #[hyper(linear(4, 8))]
    fc1: Linear,
    #[hyper(linear(8, 2))]
    fc2: Linear,
}

fn main() {}
