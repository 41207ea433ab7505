//! A convolution with no groups.

use hypernn::HyperTarget;
use hypernn::nn::Conv1d;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv1d(4, 8, 5, groups = 0))]
    layer: Conv1d,
}

fn main() {}
