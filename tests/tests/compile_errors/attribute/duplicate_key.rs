//! A key given twice.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2), name = "first", name = "second")]
    fc: Linear,
}

fn main() {}
