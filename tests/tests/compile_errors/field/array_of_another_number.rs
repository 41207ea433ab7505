//! An array of another length than the repetition.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(4, 4); 3])]
    layers: [Linear; 2],
}

fn main() {}
