//! A momentum outside of its range.

use hypernn::HyperTarget;
use hypernn::nn::BatchNorm;

#[derive(HyperTarget)]
struct Net {
    #[hyper(batch_norm(8, momentum = 1.5))]
    layer: BatchNorm,
}

fn main() {}
