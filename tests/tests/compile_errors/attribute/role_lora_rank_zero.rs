//! A low-rank adapter of rank zero, in one of several layers.

use hypernn::HyperTarget;
use hypernn::nn::{Conv2d, GRU};

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(3, 8, 3), role = lora_dropout(0, 16., 0.1))]
    conv: Conv2d,
    #[hyper(gru(8, 4), role = lora(4, 16.))]
    gru: GRU,
}

fn main() {}
