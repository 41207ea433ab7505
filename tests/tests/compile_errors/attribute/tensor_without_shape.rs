//! A tensor whose shape is no array.

use candle_core::Tensor;
use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net {
    #[hyper(tensor(3, 4))]
    scale: Tensor,
}

fn main() {}
