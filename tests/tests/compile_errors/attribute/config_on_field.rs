//! The configuration on a field.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2), config = usize)]
    fc: Linear,
}

fn main() {}
