//! A constant expression that falls below 0.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

const WIDTH: usize = 8;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(WIDTH - 9, 2))]
    layer: Linear,
}

fn main() {}
