//! Several wrong sizes: one error each.

use hypernn::HyperTarget;
use hypernn::nn::{Conv2d, GroupNorm, Linear};

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(1, 8, 5, stride = 0))]
    conv: Conv2d,
    #[hyper(group_norm(3, 8, 1e-5))]
    norm: GroupNorm,
    #[hyper([linear(8, 8), linear(8, 0)])]
    fc: Vec<Linear>,
}

fn main() {}
