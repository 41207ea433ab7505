//! A list of what is no spec.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

const fn own(width: usize) -> usize {
    width
}

#[derive(HyperTarget)]
#[hyper(sequential, input = 4)]
struct Net {
    #[hyper([own(4); 2])]
    layers: Vec<Linear>,
}

fn main() {}
