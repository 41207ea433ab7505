//! A refused layer in an array.

use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net {
    #[hyper([conv1d(1, 8, 5), conv1d(8, 8, 5)])]
    convs: [candle_nn::Conv1d; 2],
}

fn main() {}
