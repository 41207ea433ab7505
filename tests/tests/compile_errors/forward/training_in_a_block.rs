//! A layer that needs `sequential_t` in a block.

use hypernn::HyperTarget;
use hypernn::nn::{BatchNorm, Linear};

#[derive(HyperTarget)]
#[hyper(sequential = [fc, residual([norm])])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
    #[hyper(batch_norm(8, 1e-5))]
    norm: BatchNorm,
}

fn main() {}
