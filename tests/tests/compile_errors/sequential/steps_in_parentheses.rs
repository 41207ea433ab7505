//! The steps of a chain in parentheses.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential(fc, relu))]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
