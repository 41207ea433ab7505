//! Groups that do not divide the channels of a group norm.

use hypernn::HyperTarget;
use hypernn::nn::GroupNorm;

#[derive(HyperTarget)]
struct Net {
    #[hyper(group_norm(3, 8, 1e-5))]
    layer: GroupNorm,
}

fn main() {}
