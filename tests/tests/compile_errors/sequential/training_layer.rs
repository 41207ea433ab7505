//! A layer that behaves otherwise in training, in a chain that does not.

use hypernn::HyperTarget;
use hypernn::nn::{BatchNorm, Linear};

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
    #[hyper(batch_norm(8, 1e-5))]
    norm: BatchNorm,
}

fn main() {}
