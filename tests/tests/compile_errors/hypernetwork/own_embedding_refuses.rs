//! An embedding of one's own that refuses its sizes.

use candle_core::Result;
use hypernn::check::Problem;
use hypernn::embedding::{Embedding, EmbeddingInfo, EmbeddingSpec};
use hypernn::init::InitScheme;
use hypernn::nn::{Linear, VarBuilder};
use hypernn::{HyperTarget, hypernetwork};

struct Rows;

impl Rows {
    const fn info(&self) -> EmbeddingInfo {
        let problem = Problem::new("rows: ").number(5).text(" is odd");
        EmbeddingInfo::new(5, 8).params(40).checked(Some(problem))
    }
}

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
