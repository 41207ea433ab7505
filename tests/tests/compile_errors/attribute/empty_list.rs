//! A list without layers.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper([])]
    layers: Vec<Linear>,
}

fn main() {}
