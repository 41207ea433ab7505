//! A list of layers of different kinds.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(4, 2), conv2d(1, 8, 5)])]
    layers: Vec<Linear>,
}

fn main() {}
