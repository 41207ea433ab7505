//! Low-rank adapters of a target in the target.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Block {
    #[hyper(linear(4, 4))]
    fc: Linear,
}

#[derive(HyperTarget)]
struct Net {
    #[hyper([target; 2], role = lora(2, 4.))]
    blocks: Vec<Block>,
}

fn main() {}
