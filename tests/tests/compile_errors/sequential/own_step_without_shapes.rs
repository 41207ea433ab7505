//! A step of one's own that does not say what shape it gives.

use candle_core::{Result, Tensor};
use hypernn::nn::{Linear, Module};
use hypernn::{HyperTarget, LayerInfo};

struct Swish;

impl Swish {
    const fn info(&self) -> LayerInfo {
        LayerInfo::new("swish")
    }
}

impl Module for Swish {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        xs.silu()
    }
}

#[derive(HyperTarget)]
#[hyper(sequential = [fc, self::Swish])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
