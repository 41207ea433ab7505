//! Two layers on one field.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2), linear(2, 2))]
    fc: Linear,
}

fn main() {}
