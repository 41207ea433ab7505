//! candle's `ConvTranspose1d` has no gradients.

use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv_transpose1d(1, 8, 5))]
    conv: candle_nn::ConvTranspose1d,
}

fn main() {}
