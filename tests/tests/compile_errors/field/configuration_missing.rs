//! A target that needs a configuration, and gets none.

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
    block: Block,
}

fn main() {}
