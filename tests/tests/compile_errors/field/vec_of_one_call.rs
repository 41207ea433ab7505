//! A `Vec` made of one layer.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    layers: Vec<Linear>,
}

fn main() {}
