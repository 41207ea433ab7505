//! A name without quotes.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2), name = out)]
    fc: Linear,
}

fn main() {}
