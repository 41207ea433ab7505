//! An option that the layer does not have.

use hypernn::HyperTarget;
use hypernn::nn::Conv2d;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(1, 8, 5, strides = 2))]
    conv: Conv2d,
}

fn main() {}
