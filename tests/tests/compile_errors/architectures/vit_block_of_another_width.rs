//! ViT: a block that gives another width than it takes.

use candle_core::Tensor;
use hypernn::HyperTarget;
use hypernn::nn::{Conv2d, LayerNorm, Linear};

#[derive(HyperTarget)]
#[hyper(
    sequential = [
        patches, flatten_from(1), permute([1, 0]),
        concat(0, class, []),
        add(positions),
        residual([
            norm1,
            attention([q, split_heads(4)], [k, split_heads(4)], [v, split_heads(4)]),
            merge_heads, o,
        ]),
        residual([norm2, up, gelu, down]),
        take(0), head,
    ],
    input = (3, 32, 32),
)]
struct ViT {
    #[hyper(conv2d(3, 64, 8, stride = 8))]
    patches: Conv2d,
    #[hyper(tensor([1, 64]))]
    class: Tensor,
    #[hyper(tensor([17, 64]))]
    positions: Tensor,
    #[hyper(layer_norm(64, 1e-6))]
    norm1: LayerNorm,
    #[hyper(linear(64, 64))]
    q: Linear,
    #[hyper(linear(64, 64))]
    k: Linear,
    #[hyper(linear(64, 64))]
    v: Linear,
    #[hyper(linear(64, 64))]
    o: Linear,
    #[hyper(layer_norm(64, 1e-6))]
    norm2: LayerNorm,
    #[hyper(linear(64, 256))]
    up: Linear,
    #[hyper(linear(256, 32))]
    down: Linear,
    #[hyper(linear(64, 10))]
    head: Linear,
}

fn main() {}
