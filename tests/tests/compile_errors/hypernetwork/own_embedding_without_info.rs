//! An embedding of one's own without `info`.

use candle_core::Result;
use hypernn::embedding::{Embedding, EmbeddingSpec};
use hypernn::init::InitScheme;
use hypernn::nn::{Linear, VarBuilder};
use hypernn::{HyperTarget, hypernetwork};

struct Rows;

impl std::fmt::Display for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rows")
    }
}

impl EmbeddingSpec for Rows {
    fn build(&self, _scheme: InitScheme, _vb: VarBuilder<'_>) -> Result<Box<dyn Embedding>> {
        unimplemented!()
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
