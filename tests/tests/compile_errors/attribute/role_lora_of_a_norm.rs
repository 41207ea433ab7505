//! A low-rank adapter of a layer without a matrix.

use hypernn::HyperTarget;
use hypernn::nn::{LayerNorm, Linear};

#[derive(HyperTarget)]
struct Net {
    #[hyper(layer_norm(4, 1e-5), role = lora(2, 4.))]
    norm: LayerNorm,
    #[hyper(linear(4, 4))]
    fc: Linear,
}

fn main() {}
