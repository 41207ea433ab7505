//! A step that behaves otherwise in training, in a chain that does not.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc, dropout(0.1)])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
