//! A bare tensor in a chain of all fields.

use candle_core::Tensor;
use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
    #[hyper(tensor([8]))]
    scale: Tensor,
}

fn main() {}
