//! A tie of several layers at once.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear_no_bias(4, 2))]
    embed: Linear,
    #[hyper([linear(4, 2); 2], tie(weight = embed.weight))]
    head: Vec<Linear>,
    #[hyper(linear(4, 2))]
    last: Linear,
}

fn main() {}
