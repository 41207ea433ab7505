//! A step that is no field.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc1, relu, fc3])]
struct Net {
    #[hyper(linear(4, 8))]
    fc1: Linear,
    #[hyper(linear(8, 2))]
    fc2: Linear,
}

fn main() {}
