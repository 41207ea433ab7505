//! A generator of one's own without `info`.

use candle_core::Result;
use hypernn::generator::{GeneratorShape, GeneratorSpec, WeightGenerator};
use hypernn::init::InitScheme;
use hypernn::nn::{Linear, VarBuilder};
use hypernn::{HyperTarget, hypernetwork};

struct Rows;

impl std::fmt::Display for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rows")
    }
}

impl GeneratorSpec for Rows {
    fn build(
        &self,
        _shape: GeneratorShape,
        _scheme: InitScheme,
        _vb: VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
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
        embedding: table(5, 8),
        generator: Rows,
        mode: static,
    }
}

fn main() {}
