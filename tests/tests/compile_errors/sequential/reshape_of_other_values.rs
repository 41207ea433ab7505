//! Another number of values in `reshape`.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc, reshape([3, 4, 4])], input = 8)]
struct Net {
    #[hyper(linear(8, 49))]
    fc: Linear,
}

fn main() {}
