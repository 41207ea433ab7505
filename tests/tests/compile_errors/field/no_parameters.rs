//! A struct without parameters.

use hypernn::HyperTarget;
use hypernn::nn::Activation;

#[derive(HyperTarget)]
struct Net {
    #[hyper(value = Activation::Relu)]
    activation: Activation,
}

fn main() {}
