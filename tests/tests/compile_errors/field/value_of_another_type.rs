//! A value of another type than the field.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
    #[hyper(value = "3")]
    depth: usize,
}

fn main() {}
