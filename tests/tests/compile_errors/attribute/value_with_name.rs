//! A field without parameters has no name in the layout.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
    #[hyper(value = 3, name = "depth")]
    depth: usize,
}

fn main() {}
