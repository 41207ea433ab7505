//! The configuration of another layer.

use hypernn::HyperTarget;
use hypernn::nn::{Conv1dConfig, Conv2d};

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(1, 8, 5, Conv1dConfig::default()))]
    conv: Conv2d,
}

fn main() {}
