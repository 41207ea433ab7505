//! The second of two declarations: the first one is there.

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
        generator: linear,
        mode: static,
    }

    struct Other {
        embedding: table(5, 8),
        generator: linear,
        mode: static,
    }
}

fn uses(hyper: &HyperNet) -> candle_core::Result<Net> {
    hyper.target()
}

fn main() {}
