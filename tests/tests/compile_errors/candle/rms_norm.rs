//! candle's `RmsNorm` drops gradients.

use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net {
    #[hyper(rms_norm(8, 1e-5))]
    norm: candle_nn::RmsNorm,
}

fn main() {}
