//! A step with arguments that does not exist.

use hypernn::HyperTarget;
use hypernn::nn::Conv2d;

#[derive(HyperTarget)]
#[hyper(sequential = [conv, max_pool_2d(2)])]
struct Net {
    #[hyper(conv2d(1, 8, 5))]
    conv: Conv2d,
}

fn main() {}
