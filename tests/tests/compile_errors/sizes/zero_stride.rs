//! A convolution with stride 0.

use hypernn::HyperTarget;
use hypernn::nn::Conv2d;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(1, 8, 5, stride = 0))]
    layer: Conv2d,
}

fn main() {}
