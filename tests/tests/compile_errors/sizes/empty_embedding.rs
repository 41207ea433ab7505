//! An embedding without rows.

use hypernn::HyperTarget;
use hypernn::nn::Embedding;

#[derive(HyperTarget)]
struct Net {
    #[hyper(embedding(0, 8))]
    layer: Embedding,
}

fn main() {}
