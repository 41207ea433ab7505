//! A role that does not exist.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2), role = frozen)]
    fc: Linear,
}

fn main() {}
