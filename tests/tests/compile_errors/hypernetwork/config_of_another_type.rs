//! Another configuration than the target's.

use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
#[hyper(config = usize)]
struct Net {
    #[hyper(linear(*config, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: table(5, 8),
        generator: linear,
        mode: static,
        config: String,
    }
}

fn main() {}
