//! A hypernetwork without its target.

use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet {
        embedding: table(5, 8),
        generator: linear,
        mode: static,
    }
}

fn main() {}
