//! A key under two conditions that both hold.

use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        #[cfg(all())]
        embedding: table(5, 8),
        #[cfg(not(any()))]
        embedding: table(10, 8),
        generator: linear,
        mode: static,
    }
}

fn main() {}
