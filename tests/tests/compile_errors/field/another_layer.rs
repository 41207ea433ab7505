//! A layer of another kind than the field's type.

use hypernn::HyperTarget;
use hypernn::nn::Conv2d;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    conv: Conv2d,
}

fn main() {}
