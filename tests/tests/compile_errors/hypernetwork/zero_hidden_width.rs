//! A hidden layer of width 0.

use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: table(5, 8),
        generator: mlp([32, 0], relu),
        mode: static,
    }
}

fn main() {}
