//! A head that takes another width than the chain gives.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(
    sequential = [fc, relu, flatten],
    input = 16,
    output = (mean = to_mean, log_variance = [to_log_variance, wide]),
)]
struct Encoder {
    #[hyper(linear(16, 32))]
    fc: Linear,
    #[hyper(linear(32, 8))]
    to_mean: Linear,
    #[hyper(linear(32, 8))]
    to_log_variance: Linear,
    #[hyper(linear(16, 8))]
    wide: Linear,
}

fn main() {}
