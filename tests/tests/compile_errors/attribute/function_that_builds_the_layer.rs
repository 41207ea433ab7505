//! A function of your own that builds the layer, in place of a spec.

use candle_core::Result;
use hypernn::HyperTarget;
use hypernn::nn::Linear;

fn linear_z(_in_dim: usize, _out_dim: usize) -> Result<Linear> {
    candle_core::bail!("zeros")
}

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear_z(784, 10))]
    fc: Linear,
    #[hyper(linear(10, 2))]
    out: Linear,
}

fn main() {}
