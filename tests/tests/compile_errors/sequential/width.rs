//! A layer that takes another width than the one before it gives.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc1, relu, fc2])]
struct Net {
    #[hyper(linear(4, 64))]
    fc1: Linear,
    #[hyper(linear(63, 10))]
    fc2: Linear,
}

fn main() {}
