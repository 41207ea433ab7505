//! A width of a const-generic target: checked where it becomes concrete.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Block<const N: usize> {
    #[hyper(linear(8, N))]
    up: Linear,
    #[hyper(linear(16, 8))]
    down: Linear,
}

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    block: Block<16>,
    #[hyper(linear(9, 2))]
    out: Linear,
}

fn main() {}
