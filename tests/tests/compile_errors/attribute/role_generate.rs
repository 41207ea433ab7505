//! The role that every field has.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 4), role = generate)]
    fc: Linear,
}

fn main() {}
