//! A norm of another width.

use hypernn::HyperTarget;
use hypernn::nn::{LayerNorm, Linear};

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(8, 16))]
    fc: Linear,
    #[hyper(layer_norm(8, 1e-5))]
    norm: LayerNorm,
}

fn main() {}
