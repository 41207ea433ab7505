//! A value by the name of a field.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [a = fc, b, add(a)])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
    #[hyper(linear(8, 8))]
    a: Linear,
    #[hyper(linear(8, 8))]
    b: Linear,
}

fn main() {}
