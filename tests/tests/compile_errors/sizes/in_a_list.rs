//! A wrong size in a list.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(4, 2), linear(2, 0)])]
    layer: [Linear; 2],
}

fn main() {}
