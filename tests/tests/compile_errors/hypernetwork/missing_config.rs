//! A target whose sizes are known at run time, without `config`.

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
    }
}

fn main() {}
