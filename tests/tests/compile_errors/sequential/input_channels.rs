//! An input of other channels than the first layer takes.

use hypernn::HyperTarget;
use hypernn::nn::Conv2d;

#[derive(HyperTarget)]
#[hyper(sequential, input = (3, 32, 32))]
struct Net {
    #[hyper(conv2d(1, 8, 3))]
    conv: Conv2d,
}

fn main() {}
