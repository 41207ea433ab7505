//! Several mistakes: all are shown, and the rest of the program has no errors.

use candle_core::{Result, Tensor};
use hypernn::HyperTarget;
use hypernn::nn::{Linear, Module, VarBuilder};

#[derive(HyperTarget)]
#[hyper(confg = usize)]
struct Net {
    #[hyper(linear(4, 8, vb))]
    first: Linear,
    #[hyper(linear(8, 2), nmae = "out")]
    second: Linear,
    #[hyper(linear(8, 2), tie(weight = secnd.weight))]
    third: Linear,
}

fn uses(vb: VarBuilder<'_>) -> Result<Tensor> {
    let net = Net::new(vb)?;
    let flat = net.pack()?;
    assert_eq!(flat.dims(), [Net::NUM_PARAMS]);
    Net::unpack(&flat)?.first.forward(&flat)
}

fn main() {}
