//! An input size that is no whole number.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential, input = (2, 4.))]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
