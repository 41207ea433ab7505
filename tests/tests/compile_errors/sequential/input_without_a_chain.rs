//! An input shape for a forward that is written by hand.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(input = 4)]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
