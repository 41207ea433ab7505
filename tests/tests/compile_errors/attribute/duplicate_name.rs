//! A name that the layout has already.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
    #[hyper(linear(2, 2), name = "fc")]
    out: Linear,
}

fn main() {}
