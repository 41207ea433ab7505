//! A convolution with an empty kernel.

use hypernn::HyperTarget;
use hypernn::nn::Conv1d;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv1d(1, 8, 0))]
    layer: Conv1d,
}

fn main() {}
