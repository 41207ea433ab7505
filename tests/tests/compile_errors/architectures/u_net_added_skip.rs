//! U-Net: a skip of other channels is added.

use hypernn::HyperTarget;
use hypernn::nn::{Conv2d, ConvTranspose2d};

#[derive(HyperTarget)]
#[hyper(
    sequential = [
        skip1 = [down1, relu], max_pool2d(2),
        skip2 = [down2, relu], max_pool2d(2),
        bottom, relu,
        up2, add(skip2), merge2, relu,
        upsample2d(2), shrink, concat(0, skip1), merge1, relu,
        out,
    ],
    input = (1, 32, 32),
)]
struct UNet {
    #[hyper(conv2d(1, 8, 3, padding = 1))]
    down1: Conv2d,
    #[hyper(conv2d(8, 16, 3, padding = 1))]
    down2: Conv2d,
    #[hyper(conv2d(16, 32, 3, padding = 1))]
    bottom: Conv2d,
    #[hyper(conv_transpose2d(32, 24, 2, stride = 2))]
    up2: ConvTranspose2d,
    #[hyper(conv2d(24, 16, 3, padding = 1))]
    merge2: Conv2d,
    #[hyper(conv2d(16, 8, 1))]
    shrink: Conv2d,
    #[hyper(conv2d(16, 8, 3, padding = 1))]
    merge1: Conv2d,
    #[hyper(conv2d(8, 2, 1))]
    out: Conv2d,
}

fn main() {}
