//! What the layers of a `weight` and perhaps a `bias` share.

use candle_core::{Result, Tensor};
use candle_nn::Init;

use crate::ops::split::Sink;
use crate::target::source::{ParamKind, ParamSource, ParamSpec};

/// A tensor, and a shorter way for its gradient where there is one.
pub(super) type Served = (Tensor, Option<Sink>);

/// What a weight of these dimensions is asked for with.
pub(super) fn weight(dims: &[usize], init: Init) -> ParamSpec<'_> {
    ParamSpec { name: "weight", dims, kind: ParamKind::Weight, init }
}

/// Asks for a bias where it has a length.
pub(super) fn bias(
    source: &mut dyn ParamSource,
    len: Option<usize>,
    init: Init,
) -> Result<Option<Served>> {
    let Some(len) = len else { return Ok(None) };
    let spec = ParamSpec { name: "bias", dims: &[len], kind: ParamKind::Bias, init };
    let tensor = source.param(&spec)?;
    Ok(Some((tensor, source.sink())))
}

/// Asks for a weight of these dimensions, then for a bias where it has a length.
pub(super) fn params(
    source: &mut dyn ParamSource,
    dims: &[usize],
    len: Option<usize>,
    [weight_init, bias_init]: [Init; 2],
) -> Result<(Tensor, Option<Tensor>)> {
    let weight = source.param(&weight(dims, weight_init))?;
    Ok((weight, bias(source, len, bias_init)?.map(|(bias, _)| bias)))
}

/// Candle's initialisation of weight and bias, for a number of input features or channels.
pub(super) fn init(inputs: usize) -> [Init; 2] {
    let bound = 1. / (inputs as f64).sqrt();
    [candle_nn::init::DEFAULT_KAIMING_NORMAL, Init::Uniform { lo: -bound, up: bound }]
}
