//! The program of the README; a test keeps the two alike.

use candle_core::{DType, Device, Result, Tensor};
use hypernn::nn::{Linear, VarMap};
use hypernn::{HyperTarget, hypernetwork, seeded};

#[derive(HyperTarget)]
#[hyper(sequential = [hidden, relu, out], input = 64)]
struct Net {
    #[hyper(linear(64, 64))]
    hidden: Linear,
    #[hyper(linear(64, 10))]
    out: Linear,
}

hypernetwork! { struct HyperNet for Net { embedding: table(37, 8), generator: linear, mode: static } }

fn main() -> Result<()> {
    let hyper = HyperNet::new(seeded::var_builder(&VarMap::new(), 7, DType::F32, &Device::Cpu))?;
    println!("{hyper:#?}");
    let logits = hyper.forward(&Tensor::ones((1, 64), DType::F32, &Device::Cpu)?)?;
    println!("{:.2?}", logits.to_vec2::<f32>()?);
    Ok(())
}
