//! A configuration for a target by its constructor.

use hypernn::hypernetwork;
use hypernn::nn::Linear;

hypernetwork! {
    struct HyperNet for Linear {
        target: constructor,
        embedding: table(5, 8),
        generator: linear,
        mode: static,
        config: usize,
    }
}

fn main() {}
