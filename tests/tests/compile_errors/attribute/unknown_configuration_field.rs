//! A field that candle's configuration does not have.

use hypernn::HyperTarget;
use hypernn::nn::{Conv2d, Conv2dConfig};

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(1, 8, 5, Conv2dConfig { strides: 2, ..Default::default() }))]
    conv: Conv2d,
}

fn main() {}
