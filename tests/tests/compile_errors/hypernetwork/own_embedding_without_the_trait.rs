//! An embedding of one's own that does not implement the trait.

use hypernn::check::Problem;
use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

struct Rows;

impl Rows {
    const fn num_embeddings(&self) -> usize {
        5
    }

    const fn embedding_dim(&self) -> usize {
        8
    }

    const fn num_params(&self) -> usize {
        40
    }

    const fn check(&self) -> Option<Problem> {
        None
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
