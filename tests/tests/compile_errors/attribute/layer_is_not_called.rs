//! A layer without its sizes.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear)]
    fc: Linear,
}

fn main() {}
