//! A field that shares its tensors.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(4, 4); 2], role = shared)]
    layers: Vec<Linear>,
}

fn main() {}
