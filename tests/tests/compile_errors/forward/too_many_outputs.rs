//! More outputs than a tuple can have.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(
    sequential = [fc, relu],
    output = ([], [fc], [fc], [fc], [fc], [fc], [fc], [fc], [fc], [fc], [fc], [fc], [fc]),
)]
struct Heads {
    #[hyper(linear(16, 16))]
    fc: Linear,
}

fn main() {}
