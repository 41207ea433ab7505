//! A size read from `self`.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, self.width))]
    fc: Linear,
    #[hyper(value = 2)]
    width: usize,
}

fn main() {}
