//! An attribute on a step.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc, #[inline] relu])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
