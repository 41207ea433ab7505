//! An epsilon that is no number.

use hypernn::HyperTarget;
use hypernn::nn::LayerNorm;

#[derive(HyperTarget)]
struct Net {
    #[hyper(layer_norm(8, "1e-5"))]
    norm: LayerNorm,
}

fn main() {}
