//! What the layers of a `weight` and perhaps a `bias` share.

use candle_core::{Result, Tensor};
use candle_nn::Init;

use crate::target::source::{ParamKind, ParamSource, ParamSpec};

/// Asks for a weight of these dimensions, then for a bias where it has a length.
pub(super) fn params(
    source: &mut dyn ParamSource,
    dims: &[usize],
    bias: Option<usize>,
    [weight_init, bias_init]: [Init; 2],
) -> Result<(Tensor, Option<Tensor>)> {
    let mut param =
        |name, dims: &[usize], kind, init| source.param(&ParamSpec { name, dims, kind, init });
    let weight = param("weight", dims, ParamKind::Weight, weight_init)?;
    let bias = bias.map(|len| param("bias", &[len], ParamKind::Bias, bias_init)).transpose()?;
    Ok((weight, bias))
}

/// Candle's initialisation of weight and bias, for a number of input features or channels.
pub(super) fn init(inputs: usize) -> [Init; 2] {
    let bound = 1. / (inputs as f64).sqrt();
    [candle_nn::init::DEFAULT_KAIMING_NORMAL, Init::Uniform { lo: -bound, up: bound }]
}
