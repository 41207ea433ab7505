//! A target in a chain that takes another width.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Block {
    #[hyper(linear(8, 8))]
    fc: Linear,
}

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(4, 6))]
    fc: Linear,
    block: Block,
}

fn main() {}
