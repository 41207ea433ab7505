//! A misspelt name of a value.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [before = fc, a, b, add(befor)])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
    #[hyper(linear(8, 8))]
    a: Linear,
    #[hyper(linear(8, 8))]
    b: Linear,
}

fn main() {}
