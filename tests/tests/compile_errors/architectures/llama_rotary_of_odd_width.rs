//! Llama: rotary embeddings of heads of odd width.

use hypernn::HyperTarget;
use hypernn::nn::{Linear, RmsNorm};

#[derive(HyperTarget)]
#[hyper(
    sequential = [
        residual([
            norm1,
            attention(
                [q, split_heads(8), rotary(1e4)],
                [k, split_heads(2)],
                [v, split_heads(2)],
                causal = true,
            ),
            merge_heads, o,
        ]),
        residual([norm2, mul([gate, silu], [up]), down]),
    ],
    input = (T, 64),
)]
struct Block {
    #[hyper(rms_norm(64, 1e-5))]
    norm1: RmsNorm,
    #[hyper(linear_no_bias(64, 40))]
    q: Linear,
    #[hyper(linear_no_bias(64, 10))]
    k: Linear,
    #[hyper(linear_no_bias(64, 10))]
    v: Linear,
    #[hyper(linear_no_bias(40, 64))]
    o: Linear,
    #[hyper(rms_norm(64, 1e-5))]
    norm2: RmsNorm,
    #[hyper(linear_no_bias(64, 172))]
    gate: Linear,
    #[hyper(linear_no_bias(64, 172))]
    up: Linear,
    #[hyper(linear_no_bias(172, 64))]
    down: Linear,
}

fn main() {}
