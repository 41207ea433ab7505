//! A tensor whose shape is a number.

use candle_core::Tensor;
use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net {
    #[hyper(tensor(3))]
    scale: Tensor,
}

fn main() {}
