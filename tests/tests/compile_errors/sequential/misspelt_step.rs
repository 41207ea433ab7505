//! A step that does not exist.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc, rleu])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
