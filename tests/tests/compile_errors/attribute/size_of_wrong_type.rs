//! A size that is no whole number.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4., 2))]
    fc: Linear,
}

fn main() {}
