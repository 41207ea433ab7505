//! Pooling behind `flatten`.

use hypernn::HyperTarget;
use hypernn::nn::Conv2d;

#[derive(HyperTarget)]
#[hyper(sequential = [conv, flatten, avg_pool2d(2)], input = (1, 12, 12))]
struct Net {
    #[hyper(conv2d(1, 8, 5))]
    conv: Conv2d,
}

fn main() {}
