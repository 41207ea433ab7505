//! A refused layer in a `Vec`.

use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net {
    #[hyper([layer_norm(8, 1e-5); 2])]
    norms: Vec<candle_nn::LayerNorm>,
}

fn main() {}
