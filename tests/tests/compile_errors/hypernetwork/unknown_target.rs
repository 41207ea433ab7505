//! A target that is neither derived nor by its constructor.

use hypernn::hypernetwork;
use hypernn::nn::Linear;

hypernetwork! {
    struct HyperNet for Linear {
        target: module,
        embedding: table(5, 8),
        generator: linear,
        mode: static,
    }
}

fn main() {}
