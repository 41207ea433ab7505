//! A chain that begins with another input than the first, which nothing takes.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [context, fc], input = (x: (T, 4), context: (S, 4)))]
struct Net {
    #[hyper(linear(4, 4))]
    fc: Linear,
}

fn main() {}
