//! A pooling window that does not fit.

use hypernn::HyperTarget;
use hypernn::nn::Conv2d;

#[derive(HyperTarget)]
#[hyper(sequential = [conv, max_pool2d(9)], input = (1, 12, 12))]
struct Net {
    #[hyper(conv2d(1, 8, 5))]
    conv: Conv2d,
}

fn main() {}
