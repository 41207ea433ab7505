//! A target in itself, without anything that says how deep.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 4))]
    fc: Linear,
    #[hyper(if true { target })]
    next: Option<Box<Net>>,
}

fn main() {}
