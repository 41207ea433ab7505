//! An input without a shape.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential, input)]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
