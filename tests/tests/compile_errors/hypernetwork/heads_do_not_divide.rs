//! Heads that an embedding can't be shared out among.

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
        embedding: perceiver(4, 5, 8, 1, 3),
        generator: linear,
        mode: dynamic,
    }
}

fn main() {}
