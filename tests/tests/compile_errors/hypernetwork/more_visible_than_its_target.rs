//! A hypernetwork that is more visible than its target.

use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    pub struct HyperNet for Net {
        embedding: table(5, 8),
        generator: linear,
        mode: static,
    }
}

fn main() {}
