//! A size that is not a constant.

use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

fn rows() -> usize {
    5
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: table(rows(), 8),
        generator: linear,
        mode: static,
    }
}

fn main() {}
