//! A normalisation whose epsilon is missing.

use hypernn::HyperTarget;
use hypernn::nn::RmsNorm;

#[derive(HyperTarget)]
struct Net {
    #[hyper(rms_norm(8))]
    norm: RmsNorm,
}

fn main() {}
