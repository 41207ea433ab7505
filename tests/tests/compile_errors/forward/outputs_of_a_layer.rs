//! Several outputs of a layer that gives one.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [(mean, log_variance) = fc, add(log_variance)], input = 16)]
struct Net {
    #[hyper(linear(16, 16))]
    fc: Linear,
}

fn main() {}
