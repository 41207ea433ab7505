//! An optional layer with another one.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(if true { linear(4, 2) } else { linear(2, 2) })]
    fc: Option<Linear>,
}

fn main() {}
