//! An attribute that says nothing.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper()]
    fc: Linear,
}

fn main() {}
