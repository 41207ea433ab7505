//! More embeddings than the target has parameters.

use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: table(11, 8),
        generator: linear,
        mode: static,
    }
}

fn main() {}
