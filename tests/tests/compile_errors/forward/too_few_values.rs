//! A target with two inputs that gets one.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [add(y), fc], input = (x: (T, 4), y: (T, 4)))]
struct Pair {
    #[hyper(linear(4, 4))]
    fc: Linear,
}

#[derive(HyperTarget)]
#[hyper(sequential = [fc, pair()], input = (x: (T, 4)))]
struct Net {
    #[hyper(linear(4, 4))]
    fc: Linear,
    pair: Pair,
}

fn main() {}
