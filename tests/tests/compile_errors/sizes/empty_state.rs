//! An LSTM without a hidden state.

use hypernn::HyperTarget;
use hypernn::nn::LSTM;

#[derive(HyperTarget)]
struct Net {
    #[hyper(lstm(4, 0))]
    layer: LSTM,
}

fn main() {}
