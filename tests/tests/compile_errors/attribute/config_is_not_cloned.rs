//! A configuration that is not `Clone`.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

struct Sizes {
    width: usize,
}

#[derive(HyperTarget)]
#[hyper(config = Sizes)]
struct Net {
    #[hyper(linear(config.width, 2))]
    fc: Linear,
}

fn main() {}
