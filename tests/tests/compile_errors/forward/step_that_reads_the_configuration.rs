//! A step that reads a configuration which the target does not keep.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(Clone)]
struct Config {
    heads: usize,
}

#[derive(HyperTarget)]
#[hyper(config = Config, sequential = [q, split_heads(config.heads), merge_heads], input = (T, 16))]
struct Heads {
    #[hyper(linear(16, 16))]
    q: Linear,
}

fn main() {}
