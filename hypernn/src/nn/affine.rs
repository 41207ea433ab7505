//! What the layers of a `weight` and perhaps a `bias` share.

use candle_core::{Result, Tensor};
use candle_nn::Init;

use crate::ops::split::Sink;
use crate::target::source::{ParamKind, ParamSource, ParamSpec};

/// A tensor, and a shorter way for its gradient where there is one.
pub(super) type Served = (Tensor, Option<Sink>);

/// Asks for a weight of these dimensions, then for a bias where it has a length.
pub(super) fn served(
    source: &mut dyn ParamSource,
    dims: &[usize],
    bias: Option<usize>,
    [weight_init, bias_init]: [Init; 2],
) -> Result<(Served, Option<Served>)> {
    let mut param = |name, dims: &[usize], kind, init| {
        let tensor = source.param(&ParamSpec { name, dims, kind, init })?;
        Ok::<_, candle_core::Error>((tensor, source.sink()))
    };
    let weight = param("weight", dims, ParamKind::Weight, weight_init)?;
    let bias = bias.map(|len| param("bias", &[len], ParamKind::Bias, bias_init)).transpose()?;
    Ok((weight, bias))
}

/// As [`served`], the tensors alone.
pub(super) fn params(
    source: &mut dyn ParamSource,
    dims: &[usize],
    bias: Option<usize>,
    inits: [Init; 2],
) -> Result<(Tensor, Option<Tensor>)> {
    let ((weight, _), bias) = served(source, dims, bias, inits)?;
    Ok((weight, bias.map(|(bias, _)| bias)))
}

/// Candle's initialisation of weight and bias, for a number of input features or channels.
pub(super) fn init(inputs: usize) -> [Init; 2] {
    let bound = 1. / (inputs as f64).sqrt();
    [candle_nn::init::DEFAULT_KAIMING_NORMAL, Init::Uniform { lo: -bound, up: bound }]
}
