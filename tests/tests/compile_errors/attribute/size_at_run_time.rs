//! A size that is not a constant.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

fn width() -> usize {
    4
}

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(width(), 2))]
    fc: Linear,
}

fn main() {}
