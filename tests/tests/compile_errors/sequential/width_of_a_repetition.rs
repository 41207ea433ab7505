//! A repeated layer that does not fit itself.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper([linear(8, 16); 3])]
    layers: Vec<Linear>,
}

fn main() {}
