//! A mistake in a chain says nothing of its uses.

use candle_core::{Result, Tensor};
use hypernn::HyperTarget;
use hypernn::nn::{Linear, Module};

#[derive(HyperTarget)]
#[hyper(sequential = [fc, fd])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn apply(net: &Net, xs: &Tensor) -> Result<Tensor> {
    let _ = (Net::INPUT_SHAPE, Net::OUTPUT_SHAPE.rank());
    net.forward(xs)
}

fn main() {}
