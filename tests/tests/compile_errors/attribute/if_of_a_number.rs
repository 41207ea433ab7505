//! A condition that is none.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(if 1 { linear(4, 2) })]
    fc: Option<Linear>,
}

fn main() {}
