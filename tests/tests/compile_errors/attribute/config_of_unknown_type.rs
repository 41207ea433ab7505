//! A configuration whose type does not exist.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(config = Settings)]
struct Net {
    #[hyper(linear(config.width, 2))]
    fc: Linear,
}

fn main() {}
