//! 64 × (Linear(128, 128), ReLU), 1,056,768 parameters, from 64 embeddings of width 16, batch 64.

use candle_core::{Result, Tensor};
use hypernn::nn::step::relu;
use hypernn::nn::{Linear, Module, VarBuilder};
use hypernn::{HyperTarget, hypernetwork};

use super::by_hand;
use super::flat::{self, Sizes};
use super::{Network, Who, input};

const BATCH: usize = 64;

const LAYERS: usize = 64;
const WIDTH: usize = 128;

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(WIDTH, WIDTH); LAYERS])]
    layers: Vec<Linear>,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs)?.apply(&relu))
    }
}

hypernetwork! {
    struct Hyper for Net {
        embedding: table(64, 16),
        generator: linear,
        mode: static,
        init: hyper_nn,
    }
}

fn target(tensors: &[Tensor], xs: &Tensor) -> Result<Tensor> {
    (0..LAYERS).try_fold(xs.clone(), |xs, index| by_hand::linear(tensors, index, &xs)?.relu())
}

/// The target over a flat vector, in 128 tensors.
pub(super) fn flat(who: Who, vb: &VarBuilder<'_>) -> Result<Option<Network>> {
    let shapes = by_hand::linear_shapes(&[(WIDTH, WIDTH); LAYERS]);
    let sizes = Sizes { shapes, target, xs: input(&[BATCH, WIDTH], vb)?, stdev: 0.11 };
    flat::network::<Net>(who, sizes, vb)
}

pub(super) fn network(who: Who, vb: &VarBuilder<'_>) -> Result<Option<Network>> {
    let xs = input(&[BATCH, WIDTH], vb)?;
    let shapes = by_hand::linear_shapes(&[(WIDTH, WIDTH); LAYERS]);
    let network = match who {
        Who::Hypernn => {
            let hyper = Hyper::new(vb.clone())?;
            Network::hyper(hyper, |hyper| hyper.generate_params(), move |hyper| hyper.forward(&xs))
        }
        Who::NoMacros => return Ok(None),
        Who::ByHand => by_hand::hypernetwork(64, 16, None, shapes, target, xs, vb)?,
        Who::Plain => {
            let net = Net::new(vb.clone())?;
            Network::new(move || net.forward(&xs))
        }
        Who::PlainCandle => by_hand::plain(&shapes, target, xs, vb)?,
    };
    Ok(Some(network))
}
