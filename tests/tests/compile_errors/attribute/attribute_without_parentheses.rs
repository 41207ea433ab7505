//! An attribute without parentheses.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper]
    fc: Linear,
}

fn main() {}
