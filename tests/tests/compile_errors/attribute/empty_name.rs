//! An empty name.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2), name = "")]
    fc: Linear,
}

fn main() {}
