//! A layer that is not applied to one input at a time.

use hypernn::HyperTarget;
use hypernn::nn::{GRU, Linear};

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(gru(4, 8))]
    gru: GRU,
    #[hyper(linear(8, 2))]
    fc: Linear,
}

fn main() {}
