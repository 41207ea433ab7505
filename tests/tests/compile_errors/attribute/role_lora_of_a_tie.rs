//! A low-rank adapter of a tied weight.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 4))]
    fc: Linear,
    #[hyper(linear(4, 4), tie(weight = fc.weight), role = lora(2, 4.))]
    out: Linear,
}

fn main() {}
