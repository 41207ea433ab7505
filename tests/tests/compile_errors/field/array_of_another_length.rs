//! An array of another length than the list.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(4, 2), linear(2, 2), linear(2, 1)])]
    layers: [Linear; 2],
}

fn main() {}
