//! A configured target built without its configuration.

use candle_core::Result;
use hypernn::HyperTarget;
use hypernn::nn::{Linear, VarBuilder};

#[derive(HyperTarget)]
#[hyper(config = usize)]
struct Net {
    #[hyper(linear(*config, 2))]
    fc: Linear,
}

fn build(vb: VarBuilder<'_>) -> Result<Net> {
    Net::new(vb)
}

fn main() {}
