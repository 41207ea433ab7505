//! A size that a constant expression makes 0.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

const WIDTH: usize = 8;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(WIDTH - 8, 2))]
    layer: Linear,
}

fn main() {}
