//! The shape of an output, which follows from its steps.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(
    sequential = [fc, relu],
    input = 16,
    output = (mean: 8, log_variance: 8),
)]
struct Encoder {
    #[hyper(linear(16, 32))]
    fc: Linear,
    #[hyper(linear(32, 8))]
    to_mean: Linear,
    #[hyper(linear(32, 8))]
    to_log_variance: Linear,
}

fn main() {}
