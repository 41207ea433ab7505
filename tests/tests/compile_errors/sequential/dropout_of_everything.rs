//! A dropout of everything.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential_t = [fc, dropout(1.)])]
struct Net {
    #[hyper(linear(4, 8))]
    fc: Linear,
}

fn main() {}
