//! 32 samples of 16 × 28 × 28, each with a 3 × 3 convolution of its own to 32 channels: the layer alone.

use candle_core::{Module, Result, Tensor};
use candle_nn::Init;
use hypernn::nn::{Conv2d, Conv2dConfig, VarBuilder};

use super::{Network, Who, input};

const SAMPLES: usize = 32;

/// One convolution after the other, in plain candle.
fn by_hand(weight: &Tensor, bias: &Tensor, xs: &Tensor) -> Result<Tensor> {
    let conv = |sample: usize| {
        let config = Conv2dConfig { padding: 1, ..Default::default() };
        let (weight, bias) = (weight.get(sample)?, bias.get(sample)?);
        candle_nn::Conv2d::new(weight, Some(bias), config).forward(&xs.narrow(0, sample, 1)?)
    };
    Tensor::cat(&(0..SAMPLES).map(conv).collect::<Result<Vec<_>>>()?, 0)
}

pub(super) fn network(who: Who, vb: &VarBuilder<'_>) -> Result<Option<Network>> {
    let xs = input(&[SAMPLES, 16, 28, 28], vb)?;
    let init = Init::Randn { mean: 0., stdev: 0.1 };
    let weight = vb.get_with_hints((SAMPLES, 32, 16, 3, 3), "weight", init)?;
    let bias = vb.get_with_hints((SAMPLES, 32), "bias", init)?;
    Ok(Some(match who {
        Who::Hypernn => {
            let config = Conv2dConfig { padding: 1, ..Default::default() };
            let conv = Conv2d::new(weight, Some(bias), config);
            Network::new(move || conv.forward(&xs))
        }
        Who::ByHand => Network::new(move || by_hand(&weight, &bias, &xs)),
        Who::NoMacros | Who::Plain | Who::PlainCandle => return Ok(None),
    }))
}
