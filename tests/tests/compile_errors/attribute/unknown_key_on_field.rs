//! A key that a field's attribute does not have.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2), nmae = "out")]
    fc: Linear,
}

fn main() {}
