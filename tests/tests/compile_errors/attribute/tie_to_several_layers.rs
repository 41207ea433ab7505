//! A tie to several layers at once.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(4, 2); 2])]
    embed: Vec<Linear>,
    #[hyper(linear(4, 2), tie(weight = embed.weight))]
    head: Linear,
    #[hyper(linear(4, 2))]
    last: Linear,
}

fn main() {}
