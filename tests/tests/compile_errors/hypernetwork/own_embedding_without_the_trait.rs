//! An embedding of one's own that does not implement the trait.

use hypernn::embedding::EmbeddingInfo;
use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

struct Rows;

impl Rows {
    const fn info(&self) -> EmbeddingInfo {
        EmbeddingInfo::new(5, 8).params(40)
    }
}

impl std::fmt::Display for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rows")
    }
}

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: Rows,
        generator: linear,
        mode: static,
    }
}

fn main() {}
