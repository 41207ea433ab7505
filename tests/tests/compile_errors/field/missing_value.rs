//! A field without parameters, and without a value.

use hypernn::HyperTarget;
use hypernn::nn::{Activation, Linear};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
    activation: Activation,
}

fn main() {}
