//! A target that gets a configuration of another type.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(config = usize)]
struct Block {
    #[hyper(linear(*config, 2))]
    fc: Linear,
}

#[derive(HyperTarget)]
struct Net {
    #[hyper(target("4"))]
    block: Block,
}

fn main() {}
