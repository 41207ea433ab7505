//! candle's `Conv1d` computes wrong gradients.

use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv1d(1, 8, 5))]
    conv: candle_nn::Conv1d,
}

fn main() {}
