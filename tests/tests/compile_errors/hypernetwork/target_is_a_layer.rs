//! A layer as the target.

use hypernn::hypernetwork;
use hypernn::nn::Linear;

hypernetwork! {
    struct HyperNet for Linear {
        embedding: table(5, 8),
        generator: linear,
        mode: static,
    }
}

fn main() {}
