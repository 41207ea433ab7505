//! A key that the struct's attribute does not have.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(confg = usize)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

fn main() {}
