//! A target that gets a configuration, and needs none.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Block {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

#[derive(HyperTarget)]
struct Net {
    #[hyper(target(4))]
    block: Block,
}

fn main() {}
