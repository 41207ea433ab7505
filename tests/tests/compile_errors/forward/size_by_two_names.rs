//! Two inputs whose lengths have different names.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc, a, add([other, b])], input = (x: (T, 4), other: (S, 8)))]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
    #[hyper(linear(8, 8))]
    a: Linear,
    #[hyper(linear(8, 8))]
    b: Linear,
}

fn main() {}
