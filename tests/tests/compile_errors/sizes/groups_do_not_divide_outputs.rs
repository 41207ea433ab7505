//! Groups that do not divide the output channels.

use hypernn::HyperTarget;
use hypernn::nn::ConvTranspose1d;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv_transpose1d(9, 4, 5, groups = 3))]
    layer: ConvTranspose1d,
}

fn main() {}
