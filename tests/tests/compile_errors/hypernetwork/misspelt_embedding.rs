//! An embedding that does not exist.

use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: tabel(5, 8),
        generator: linear,
        mode: static,
    }
}

fn main() {}
