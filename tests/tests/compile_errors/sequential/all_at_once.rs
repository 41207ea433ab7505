//! Several steps that do not fit: an error each.

use hypernn::HyperTarget;
use hypernn::nn::{Conv2d, Linear};

#[derive(HyperTarget)]
#[hyper(sequential = [first, second, flatten, fc1, fc2], input = (1, 8, 8))]
struct Net {
    #[hyper(conv2d(3, 8, 3))]
    first: Conv2d,
    #[hyper(conv2d(8, 4, 9))]
    second: Conv2d,
    #[hyper(linear(100, 10))]
    fc1: Linear,
    #[hyper(linear(11, 2))]
    fc2: Linear,
}

fn main() {}
