//! 784-1024-256-10, 1,068,810 parameters, from 64 embeddings of width 32, batch 64.

use candle_core::Result;
use hypernn::nn::{Linear, Module, VarBuilder};
use hypernn::{HyperTarget, hypernetwork};

use super::by_hand;
use super::{Network, Who, input};

const BATCH: usize = 64;

#[derive(HyperTarget)]
#[hyper(sequential = [first, relu, second, relu, last], input = 784)]
struct Net {
    #[hyper(linear(784, 1024))]
    first: Linear,
    #[hyper(linear(1024, 256))]
    second: Linear,
    #[hyper(linear(256, 10))]
    last: Linear,
}

hypernetwork! {
    struct Hyper for Net {
        embedding: table(64, 32),
        generator: linear,
        mode: static,
        init: hyper_nn,
    }
}

pub(super) fn network(who: Who, vb: &VarBuilder<'_>) -> Result<Option<Network>> {
    let xs = input(&[BATCH, 784], vb)?;
    let shapes = by_hand::linear_shapes(&[(784, 1024), (1024, 256), (256, 10)]);
    let network = match who {
        Who::Hypernn => {
            let hyper = Hyper::new(vb.clone())?;
            Network::hyper(hyper, |hyper| hyper.generate_params(), move |hyper| hyper.forward(&xs))
        }
        Who::NoMacros => return Ok(None),
        Who::ByHand => by_hand::hypernetwork(64, 32, None, shapes, by_hand::mlp, xs, vb)?,
        Who::Plain => {
            let net = Net::new(vb.clone())?;
            Network::new(move || net.forward(&xs))
        }
        Who::PlainCandle => by_hand::plain(&shapes, by_hand::mlp, xs, vb)?,
    };
    network.with_digits(BATCH, vb.device()).map(Some)
}
