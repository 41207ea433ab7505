//! A field that the configuration does not have.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(Clone)]
struct Sizes {
    width: usize,
}

#[derive(HyperTarget)]
#[hyper(config = Sizes)]
struct Net {
    #[hyper(linear(config.widht, 2))]
    fc: Linear,
}

fn main() {}
