//! Several fields of wrong types: one error each, and the rest of the program has none.

use candle_core::{Result, Tensor};
use hypernn::HyperTarget;
use hypernn::nn::{Linear, Module, VarBuilder};

struct Block;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    first: String,
    second: Block,
    third: Linear,
    #[hyper(linear(4, 2))]
    right: Linear,
}

fn uses(vb: VarBuilder<'_>) -> Result<Tensor> {
    let net = Net::new(vb)?;
    let flat = net.pack()?;
    Net::unpack(&flat)?.right.forward(&flat)
}

fn main() {}
