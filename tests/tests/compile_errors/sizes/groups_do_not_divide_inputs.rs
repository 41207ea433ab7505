//! Groups that do not divide the input channels.

use hypernn::HyperTarget;
use hypernn::nn::Conv2d;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(4, 9, 5, groups = 3))]
    layer: Conv2d,
}

fn main() {}
