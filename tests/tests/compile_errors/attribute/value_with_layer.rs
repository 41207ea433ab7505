//! A field with both a layer and a value.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

fn weight() -> candle_core::Tensor {
    unimplemented!()
}

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2), value = Linear::new(weight(), None))]
    fc: Linear,
}

fn main() {}
