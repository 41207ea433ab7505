//! A refused layer in a `Box`.

use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv_transpose1d(1, 8, 5))]
    conv: Box<candle_nn::ConvTranspose1d>,
}

fn main() {}
