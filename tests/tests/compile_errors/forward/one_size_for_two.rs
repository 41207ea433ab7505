//! A target that takes two sequences of one length, and gets two lengths.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [add(y), fc], input = (x: (T, 4), y: (T, 4)))]
struct Pair {
    #[hyper(linear(4, 4))]
    fc: Linear,
}

#[derive(HyperTarget)]
#[hyper(sequential = [pair(other)], input = (x: (N, 4), other: (M, 4)))]
struct Net {
    pair: Pair,
}

fn main() {}
