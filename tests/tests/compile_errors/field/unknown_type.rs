//! A type that does not exist.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linaer,
    #[hyper(linear(2, 2))]
    out: Linear,
}

fn main() {}
