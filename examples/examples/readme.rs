//! The program of the README; a test keeps the two alike.

use candle_core::{DType, Device, Result, Tensor};
use hypernn::nn::{Linear, Module, VarMap};
use hypernn::{HyperTarget, hypernetwork, seeded};

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(64, 64), linear(64, 10)])]
    layers: [Linear; 2],
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.layers[1].forward(&self.layers[0].forward(xs)?.relu()?)
    }
}

hypernetwork! { struct HyperNet for Net { embedding: table(37, 8), generator: linear, mode: static } }

fn main() -> Result<()> {
    let hyper = HyperNet::new(seeded::var_builder(&VarMap::new(), 7, DType::F32, &Device::Cpu))?;
    println!("{hyper:#?}");
    let logits = hyper.forward(&Tensor::ones((1, 64), DType::F32, &Device::Cpu)?)?;
    println!("{:.2?}", logits.to_vec2::<f32>()?);
    Ok(())
}
