//! A target with several outputs as a step.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc, relu], output = (mean = to_mean, log_variance = to_log_variance))]
struct Encoder {
    #[hyper(linear(16, 32))]
    fc: Linear,
    #[hyper(linear(32, 8))]
    to_mean: Linear,
    #[hyper(linear(32, 8))]
    to_log_variance: Linear,
}

#[derive(HyperTarget)]
#[hyper(sequential = [encoder, decoder], input = 16)]
struct Autoencoder {
    encoder: Encoder,
    #[hyper(linear(8, 16))]
    decoder: Linear,
}

fn main() {}
