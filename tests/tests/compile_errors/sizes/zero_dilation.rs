//! A convolution with dilation 0.

use hypernn::HyperTarget;
use hypernn::nn::ConvTranspose2d;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv_transpose2d(1, 8, 5, dilation = 0))]
    layer: ConvTranspose2d,
}

fn main() {}
