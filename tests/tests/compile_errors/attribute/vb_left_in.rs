//! candle's `vb` left in.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2, vb.pp("fc")))]
    fc: Linear,
}

fn main() {}
