//! A step of one's own by its bare name.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc, Swish])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
