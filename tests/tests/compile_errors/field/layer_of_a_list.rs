//! A layer made of a list.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(4, 2); 3])]
    fc: Linear,
}

fn main() {}
