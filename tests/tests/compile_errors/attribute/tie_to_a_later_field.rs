//! A tie to a field below.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear_no_bias(4, 2))]
    embed: Linear,
    #[hyper(linear(4, 2), tie(weight = last.weight))]
    head: Linear,
    #[hyper(linear(4, 2))]
    last: Linear,
}

fn main() {}
