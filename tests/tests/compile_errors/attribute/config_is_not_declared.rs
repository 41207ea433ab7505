//! A configuration that the struct does not declare.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(config.width, 2))]
    fc: Linear,
}

fn main() {}
