//! An option of another type.

use hypernn::HyperTarget;
use hypernn::nn::Conv2d;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(1, 8, 5, stride = "2"))]
    conv: Conv2d,
}

fn main() {}
