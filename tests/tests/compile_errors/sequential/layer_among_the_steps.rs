//! A layer with parameters among the steps.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc, relu, linear(8, 2)])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
