//! A field that is no step, in a chain of all fields.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
    #[hyper(value = "net")]
    name: &'static str,
}

fn main() {}
