//! A length with a name meets a number.

use hypernn::HyperTarget;
use candle_core::Tensor;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc, a, b, add(bias)], input = (T, 4))]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
    #[hyper(linear(8, 8))]
    a: Linear,
    #[hyper(linear(8, 8))]
    b: Linear,
    #[hyper(tensor([12, 8]))]
    bias: Tensor,
}

fn main() {}
