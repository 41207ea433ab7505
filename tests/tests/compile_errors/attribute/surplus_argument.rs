//! A layer with too many sizes.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2, true))]
    fc: Linear,
}

fn main() {}
