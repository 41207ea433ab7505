//! A kernel that is larger than what is left of the image.

use hypernn::HyperTarget;
use hypernn::nn::Conv2d;

#[derive(HyperTarget)]
#[hyper(sequential = [first, max_pool2d(2), second], input = (1, 12, 12))]
struct Net {
    #[hyper(conv2d(1, 8, 5))]
    first: Conv2d,
    #[hyper(conv2d(8, 8, 3, dilation = 2))]
    second: Conv2d,
}

fn main() {}
