//! A low-rank adapter without arguments.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 4), role = lora)]
    fc: Linear,
}

fn main() {}
