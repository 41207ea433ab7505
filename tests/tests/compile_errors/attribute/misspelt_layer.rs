//! A layer that does not exist.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(liner(4, 2))]
    fc: Linear,
}

fn main() {}
