//! The constructor in the words of version 0.1.

use hypernn::hypernetwork;
use hypernn::nn::Linear;

hypernetwork! {
    struct HyperNet for Linear {
        target: by constructor,
        embedding: table(5, 8),
        generator: linear,
        mode: static,
    }
}

fn main() {}
