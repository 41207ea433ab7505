//! Encoder and decoder: a context of another width.

use hypernn::HyperTarget;
use hypernn::nn::{LayerNorm, Linear};

#[derive(HyperTarget)]
#[hyper(
    sequential = [
        attention(
            [q, split_heads(4)],
            [context, k, split_heads(4)],
            [context, v, split_heads(4)],
        ),
        merge_heads, o,
    ],
    input = (x: (T, 32), context: (S, 48)),
)]
struct Cross {
    #[hyper(linear(32, 32))]
    q: Linear,
    #[hyper(linear(48, 32))]
    k: Linear,
    #[hyper(linear(48, 32))]
    v: Linear,
    #[hyper(linear(32, 32))]
    o: Linear,
}

#[derive(HyperTarget)]
#[hyper(
    sequential = [
        residual([norm, cross(source)]),
    ],
    input = (target: (T, 32), source: (S, 32)),
)]
struct Decoder {
    #[hyper(layer_norm(32, 1e-5))]
    norm: LayerNorm,
    cross: Cross,
}

fn main() {}
