//! A generator of one's own that does not implement the trait.

use hypernn::check::Problem;
use hypernn::generator::GeneratorShape;
use hypernn::nn::Linear;
use hypernn::{ChunkPlan, HyperTarget, hypernetwork};

struct Rows;

impl Rows {
    const fn plan(&self, num_params: usize, num_embeddings: usize) -> ChunkPlan {
        ChunkPlan::new(num_params, num_embeddings)
    }

    const fn num_params(&self, _shape: GeneratorShape) -> usize {
        0
    }

    const fn check(&self, _shape: GeneratorShape) -> Option<Problem> {
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
        embedding: table(5, 8),
        generator: Rows,
        mode: static,
    }
}

fn main() {}
