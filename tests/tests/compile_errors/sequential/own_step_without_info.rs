//! A step of one's own that says nothing of itself.

use candle_core::{Result, Tensor};
use hypernn::HyperTarget;
use hypernn::flow::{Given, SampleShape};
use hypernn::nn::{Linear, Module};

struct Swish;

impl Swish {
    const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(*input)
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
