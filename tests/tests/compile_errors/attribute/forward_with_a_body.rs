//! A forward function with a body.

use candle_core::{Result, Tensor};
use hypernn::HyperTarget;
use hypernn::nn::{Linear, Module};

#[derive(HyperTarget)]
#[hyper(forward(fn step(&self, xs: &Tensor) -> Result<Tensor> { self.fc.forward(xs) }))]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

impl Net {
    fn step(&self, xs: &Tensor) -> Result<Tensor> {
        self.fc.forward(xs)
    }
}

fn main() {}
