//! candle's `LayerNorm` drops gradients.

use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net {
    #[hyper(layer_norm(8, 1e-5))]
    norm: candle_nn::LayerNorm,
}

fn main() {}
