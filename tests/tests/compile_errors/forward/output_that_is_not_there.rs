//! An output that no step has given a name.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(
    sequential = [hidden = fc, relu],
    input = 16,
    output = (hiden, mean = to_mean, log_variance = to_log_variance),
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
