//! A layer that nothing resembles.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential, input = 784)]
struct Net {
    #[hyper(zeros_and_ones(784, 10))]
    fc: Linear,
}

fn main() {}
