//! A convolution of other channels.

use hypernn::HyperTarget;
use hypernn::nn::Conv2d;

#[derive(HyperTarget)]
#[hyper(sequential, input = (3, 32, 32))]
struct Net {
    #[hyper(conv2d(3, 8, 3, stride = 2))]
    first: Conv2d,
    #[hyper(conv2d(16, 8, 3))]
    second: Conv2d,
}

fn main() {}
