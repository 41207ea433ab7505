//! The constructor of another model than the target.

use hypernn::hypernetwork;
use hypernn::nn::{Linear, VarBuilder, embedding};

hypernetwork! {
    struct HyperNet for Linear {
        target: constructor,
        embedding: table(5, 8),
        generator: linear,
        mode: static,
    }
}

fn build(vb: VarBuilder<'_>) -> candle_core::Result<HyperNet> {
    HyperNet::new(vb, |vb| embedding(5, 8, vb))
}

fn main() {}
