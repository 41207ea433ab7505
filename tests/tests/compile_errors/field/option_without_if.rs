//! An `Option` made of a layer.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Option<Linear>,
}

fn main() {}
