//! A group norm of no groups.

use hypernn::HyperTarget;
use hypernn::nn::GroupNorm;

#[derive(HyperTarget)]
struct Net {
    #[hyper(group_norm(0, 8, 1e-5))]
    layer: GroupNorm,
}

fn main() {}
