//! A value with a name that has another width.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [kept = [fc, tanh], a, relu, b, add(kept)])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
    #[hyper(linear(8, 8))]
    a: Linear,
    #[hyper(linear(8, 6))]
    b: Linear,
}

fn main() {}
