//! A wrong size in a configuration.

use hypernn::HyperTarget;
use hypernn::nn::{Conv2d, Conv2dConfig};

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(1, 8, 5, Conv2dConfig { stride: 0, ..Default::default() }))]
    layer: Conv2d,
}

fn main() {}
