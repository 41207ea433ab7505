//! Positions, which turn pairs of values, and heads of an odd width.

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
        embedding: transformer(4, 5, 6, 1, 2),
        generator: linear,
        mode: dynamic,
    }
}

fn main() {}
