//! A layer on the struct.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(linear(4, 2))]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

fn main() {}
