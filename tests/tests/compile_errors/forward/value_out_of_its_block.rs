//! A value that is known within a block alone.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc, residual([before = a, relu, add(before)]), b, add(before)])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
    #[hyper(linear(8, 8))]
    a: Linear,
    #[hyper(linear(8, 8))]
    b: Linear,
}

fn main() {}
