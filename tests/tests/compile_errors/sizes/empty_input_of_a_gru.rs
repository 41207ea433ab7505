//! A GRU without inputs.

use hypernn::HyperTarget;
use hypernn::nn::GRU;

#[derive(HyperTarget)]
struct Net {
    #[hyper(gru(0, 4))]
    layer: GRU,
}

fn main() {}
