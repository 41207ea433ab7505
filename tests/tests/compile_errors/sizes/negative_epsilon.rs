//! An epsilon below zero.

use hypernn::HyperTarget;
use hypernn::nn::LayerNorm;

#[derive(HyperTarget)]
struct Net {
    #[hyper(layer_norm(8, -1e-5))]
    layer: LayerNorm,
}

fn main() {}
