//! A chain given twice.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc])]
#[hyper(sequential = [fc, relu])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
