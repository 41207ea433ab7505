//! Two configurations.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(Clone)]
struct Sizes {
    width: usize,
}

#[derive(HyperTarget)]
#[hyper(config = Sizes, config = Sizes)]
struct Net {
    #[hyper(linear(config.width, 2))]
    fc: Linear,
}

fn main() {}
