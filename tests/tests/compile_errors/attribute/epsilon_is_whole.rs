//! An epsilon that is a whole number.

use hypernn::HyperTarget;
use hypernn::nn::LayerNorm;

#[derive(HyperTarget)]
struct Net {
    #[hyper(layer_norm(8, 1))]
    norm: LayerNorm,
}

fn main() {}
