//! One part that takes a set, and one that takes a vector.

use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: pooled(4, [8], tanh, 5, 3),
        generator: linear.conditioned(4),
        mode: dynamic,
    }
}

fn main() {}
