//! Mixer: the mean along an axis that there is not.

use hypernn::HyperTarget;
use hypernn::nn::{Conv2d, LayerNorm, Linear};

#[derive(HyperTarget)]
#[hyper(
    sequential = [
        patches, flatten_from(1), permute([1, 0]),
        residual([norm1, permute([1, 0]), up1, gelu, down1, permute([1, 0])]),
        residual([norm2, up2, gelu, down2]),
        norm, mean(2), fc,
    ],
    input = (3, 32, 32),
)]
struct Mixer {
    #[hyper(conv2d(3, 48, 8, stride = 8))]
    patches: Conv2d,
    #[hyper(layer_norm(48, 1e-6))]
    norm1: LayerNorm,
    #[hyper(linear(16, 32))]
    up1: Linear,
    #[hyper(linear(32, 16))]
    down1: Linear,
    #[hyper(layer_norm(48, 1e-6))]
    norm2: LayerNorm,
    #[hyper(linear(48, 96))]
    up2: Linear,
    #[hyper(linear(96, 48))]
    down2: Linear,
    #[hyper(layer_norm(48, 1e-6))]
    norm: LayerNorm,
    #[hyper(linear(48, 10))]
    fc: Linear,
}

fn main() {}
