//! A PReLU without slopes.

use hypernn::HyperTarget;
use hypernn::nn::PReLU;

#[derive(HyperTarget)]
struct Net {
    #[hyper(prelu(Some(0)))]
    layer: PReLU,
}

fn main() {}
