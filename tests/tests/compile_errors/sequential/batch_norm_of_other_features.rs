//! A batch norm of other features.

use hypernn::HyperTarget;
use hypernn::nn::{BatchNorm, Linear};

#[derive(HyperTarget)]
#[hyper(sequential_t = [fc, norm], input = 8)]
struct Net {
    #[hyper(linear(8, 16))]
    fc: Linear,
    #[hyper(batch_norm(8, 1e-5))]
    norm: BatchNorm,
}

fn main() {}
