//! A target that does not exist.

use hypernn::hypernetwork;

hypernetwork! {
    struct HyperNet for Net {
        embedding: table(5, 8),
        generator: linear,
        mode: static,
    }
}

fn main() {}
