//! A layer without an attribute.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    fc: Linear,
}

fn main() {}
