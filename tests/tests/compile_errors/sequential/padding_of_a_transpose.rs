//! A transposed convolution whose padding leaves nothing.

use hypernn::HyperTarget;
use hypernn::nn::ConvTranspose2d;

#[derive(HyperTarget)]
#[hyper(sequential, input = (1, 1, 1))]
struct Net {
    #[hyper(conv_transpose2d(1, 8, 3, padding = 2))]
    up: ConvTranspose2d,
}

fn main() {}
