//! A layer of one's own whose spec says nothing of itself.

use candle_core::{Module, Result, Tensor};
use hypernn::nn::Linear;
use hypernn::target::layer::Visitor;
use hypernn::target::source::ParamSource;
use hypernn::{HyperLayer, HyperTarget, Parameters};

struct Scale(Tensor);

struct ScaleSpec;

const fn scale() -> ScaleSpec {
    ScaleSpec
}

impl HyperLayer<ScaleSpec> for Scale {
    fn build(_spec: &ScaleSpec, _source: &mut dyn ParamSource) -> Result<Self> {
        unimplemented!()
    }
}

impl Parameters for Scale {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        visitor("weight", &self.0)
    }
}

impl Module for Scale {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        xs.broadcast_mul(&self.0)
    }
}

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
    #[hyper(self::scale())]
    scale: Scale,
}

fn main() {}
