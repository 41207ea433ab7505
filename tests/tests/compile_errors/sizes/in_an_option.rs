//! A wrong size in an optional layer.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(if true { linear(0, 2) })]
    layer: Option<Linear>,
}

fn main() {}
