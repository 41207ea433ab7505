//! A role of a field without parameters.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 4))]
    fc: Linear,
    #[hyper(value = 0.5, role = freeze)]
    slope: f64,
}

fn main() {}
