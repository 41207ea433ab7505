//! A wrong number of values behind a convolution.

use hypernn::HyperTarget;
use hypernn::nn::{Conv2d, Linear};

const VALUES: usize = 8 * 13 * 13;

#[derive(HyperTarget)]
#[hyper(sequential = [conv, relu, max_pool2d(2), flatten, fc], input = (1, 28, 28))]
struct Net {
    #[hyper(conv2d(1, 8, 5))]
    conv: Conv2d,
    #[hyper(linear(VALUES, 10))]
    fc: Linear,
}

fn main() {}
