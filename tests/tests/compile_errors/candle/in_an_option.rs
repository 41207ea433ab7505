//! A refused layer in an `Option`.

use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net {
    #[hyper(if true { rms_norm(8, 1e-5) })]
    norm: Option<candle_nn::RmsNorm>,
}

fn main() {}
