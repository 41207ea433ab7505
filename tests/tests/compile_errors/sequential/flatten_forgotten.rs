//! An image into a linear layer.

use hypernn::HyperTarget;
use hypernn::nn::{Conv2d, Linear};

#[derive(HyperTarget)]
#[hyper(sequential = [conv, relu, max_pool2d(2), fc], input = (1, 28, 28))]
struct Net {
    #[hyper(conv2d(1, 8, 5))]
    conv: Conv2d,
    #[hyper(linear(8 * 12 * 12, 10))]
    fc: Linear,
}

fn main() {}
