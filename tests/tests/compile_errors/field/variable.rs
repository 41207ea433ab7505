//! A `Var` instead of a tensor.

use candle_core::Var;
use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net {
    #[hyper(tensor([4]))]
    scale: Var,
}

fn main() {}
