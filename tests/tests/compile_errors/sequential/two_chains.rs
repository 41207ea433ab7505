//! Two chains.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential, sequential_t)]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
