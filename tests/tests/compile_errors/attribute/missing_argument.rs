//! A layer with too few sizes.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4))]
    fc: Linear,
}

fn main() {}
