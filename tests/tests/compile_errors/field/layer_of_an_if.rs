//! A layer made of an `if`.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(if true { linear(4, 2) })]
    fc: Linear,
}

fn main() {}
