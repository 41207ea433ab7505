//! Outputs of a forward that is written by hand.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(
    output = (mean = to_mean, log_variance = to_log_variance),
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
