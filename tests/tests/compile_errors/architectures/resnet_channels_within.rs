//! ResNet: a convolution within a block that takes other channels.

use hypernn::HyperTarget;
use hypernn::nn::{BatchNorm, Conv2d, Linear};

#[derive(HyperTarget)]
#[hyper(
    sequential_t = [
        stem, bn0, relu, max_pool2d(3, stride = 2, padding = 1),
        residual([conv1, bn1, relu, conv2, bn2]),
        relu,
        residual([conv3, bn3, relu, conv4, bn4], skip = [down, bn5]),
        relu,
        global_avg_pool2d, fc,
    ],
    input = (3, 64, 64),
)]
struct ResNet {
    #[hyper(conv2d_no_bias(3, 16, 7, stride = 2, padding = 3))]
    stem: Conv2d,
    #[hyper(batch_norm(16, 1e-5))]
    bn0: BatchNorm,
    #[hyper(conv2d_no_bias(16, 16, 3, padding = 1))]
    conv1: Conv2d,
    #[hyper(batch_norm(16, 1e-5))]
    bn1: BatchNorm,
    #[hyper(conv2d_no_bias(16, 16, 3, padding = 1))]
    conv2: Conv2d,
    #[hyper(batch_norm(16, 1e-5))]
    bn2: BatchNorm,
    #[hyper(conv2d_no_bias(16, 32, 3, stride = 2, padding = 1))]
    conv3: Conv2d,
    #[hyper(batch_norm(32, 1e-5))]
    bn3: BatchNorm,
    #[hyper(conv2d_no_bias(16, 32, 3, padding = 1))]
    conv4: Conv2d,
    #[hyper(batch_norm(32, 1e-5))]
    bn4: BatchNorm,
    #[hyper(conv2d_no_bias(16, 32, 1, stride = 2))]
    down: Conv2d,
    #[hyper(batch_norm(32, 1e-5))]
    bn5: BatchNorm,
    #[hyper(linear(32, 10))]
    fc: Linear,
}

fn main() {}
