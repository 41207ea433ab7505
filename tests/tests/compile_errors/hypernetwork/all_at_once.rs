//! Several mistakes: all are shown, and the rest of the program has no errors.

use candle_core::{Result, Tensor};
use hypernn::nn::{Linear, VarBuilder};
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        embeding: table(5, 8),
        generator: mlp([32] relu),
        mode: statik,
    }
}

fn uses(vb: VarBuilder<'_>) -> Result<Tensor> {
    let hyper = HyperNet::new(vb)?;
    hyper.generate_params()?.flat()
}

fn main() {}
