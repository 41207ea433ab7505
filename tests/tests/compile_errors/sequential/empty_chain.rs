//! A chain without steps.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
