//! Outputs that leave out what the chain ends with.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(
    sequential = [hidden = fc, mean_of = to_mean, relu],
    input = 16,
    output = (mean_of, [hidden, to_log_variance]),
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
