//! A repetition without its number.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(4, 2);])]
    layers: Vec<Linear>,
}

fn main() {}
