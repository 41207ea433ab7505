//! The network of hyper-nn's MNIST notebook, 77,066 parameters, from 511 embeddings of width 4 through a
//! hidden layer of 32, batch 64. hyper-nn has 512, the last of which feeds nothing.

use candle_core::{Result, Tensor};
use hypernn::nn::{Conv2d, Conv2dConfig, Module, VarBuilder};
use hypernn::{HyperTarget, hypernetwork};

use super::by_hand;
use super::{Network, Who, input};

const BATCH: usize = 64;

#[derive(HyperTarget)]
#[hyper(sequential = [first, relu, second, relu, third, relu, last, flatten], input = (1, 28, 28))]
struct Net {
    #[hyper(conv2d(1, 64, 3, stride = 2))]
    first: Conv2d,
    #[hyper(conv2d(64, 64, 3, stride = 2))]
    second: Conv2d,
    #[hyper(conv2d(64, 64, 3, stride = 2))]
    third: Conv2d,
    #[hyper(conv2d(64, 10, 2, stride = 2))]
    last: Conv2d,
}

hypernetwork! {
    struct Hyper for Net {
        embedding: table(511, 4),
        generator: mlp([32], tanh),
        mode: static,
        init: hyper_nn,
    }
}

/// Output and input channels, and size.
const KERNELS: [[usize; 3]; 4] = [[64, 1, 3], [64, 64, 3], [64, 64, 3], [10, 64, 2]];

fn conv(tensors: &[Tensor], index: usize, xs: &Tensor) -> Result<Tensor> {
    let (weight, bias) = (tensors[2 * index].clone(), tensors[2 * index + 1].clone());
    let config = Conv2dConfig { stride: 2, ..Default::default() };
    candle_nn::Conv2d::new(weight, Some(bias), config).forward(xs)
}

fn target(tensors: &[Tensor], xs: &Tensor) -> Result<Tensor> {
    let xs = (0..3).try_fold(xs.clone(), |xs, index| conv(tensors, index, &xs)?.relu())?;
    conv(tensors, 3, &xs)?.flatten_from(1)
}

pub(super) fn network(who: Who, vb: &VarBuilder<'_>) -> Result<Option<Network>> {
    let xs = input(&[BATCH, 1, 28, 28], vb)?;
    let shapes = KERNELS
        .iter()
        .flat_map(|&[outputs, inputs, size]| [vec![outputs, inputs, size, size], vec![outputs]]);
    let shapes: Vec<_> = shapes.collect();
    let network = match who {
        Who::Hypernn => {
            let hyper = Hyper::new(vb.clone())?;
            Network::hyper(hyper, |hyper| hyper.generate_params(), move |hyper| hyper.forward(&xs))
        }
        Who::NoMacros => return Ok(None),
        Who::ByHand => by_hand::hypernetwork(511, 4, Some(32), shapes, target, xs, vb)?,
        Who::Plain => {
            let net = Net::new(vb.clone())?;
            Network::new(move || net.forward(&xs))
        }
        Who::PlainCandle => by_hand::plain(&shapes, target, xs, vb)?,
    };
    network.with_digits(BATCH, vb.device()).map(Some)
}
