//! A tensor without values.

use candle_core::Tensor;
use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net {
    #[hyper(tensor([3, 0]))]
    layer: Tensor,
}

fn main() {}
