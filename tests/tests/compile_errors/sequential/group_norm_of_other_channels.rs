//! A group norm of other channels.

use hypernn::HyperTarget;
use hypernn::nn::{Conv1d, GroupNorm};

#[derive(HyperTarget)]
#[hyper(sequential, input = (2, 100))]
struct Net {
    #[hyper(conv1d(2, 6, 3))]
    conv: Conv1d,
    #[hyper(group_norm(2, 4, 1e-5))]
    norm: GroupNorm,
}

fn main() {}
