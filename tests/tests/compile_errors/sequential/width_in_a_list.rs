//! A layer of a list that does not fit.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper([linear(8, 16), linear(15, 4)])]
    layers: Vec<Linear>,
}

fn main() {}
