//! A wrong size in a repetition.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(0, 2); 3])]
    layer: Vec<Linear>,
}

fn main() {}
