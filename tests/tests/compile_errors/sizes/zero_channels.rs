//! A convolution of no channels.

use hypernn::HyperTarget;
use hypernn::nn::Conv2d;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(0, 8, 5))]
    layer: Conv2d,
}

fn main() {}
