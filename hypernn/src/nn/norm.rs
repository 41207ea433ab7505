//! What the normalisations share.

use candle_core::{D, Result, Shape, Tensor};
use candle_nn::{BatchNormConfig, LayerNormConfig};

use super::affine::Affine;
use super::{BatchNormSpec, LayerNormSpec};
use crate::check::{Problem, ensure_same_dtype};
use crate::ops::gain::{gain, plus};
use crate::ops::internal;
use crate::ops::product::repeat_rows;
use crate::ops::scalar::is_direct;
use crate::param::Param;

/// The last argument of candle's `layer_norm` and `batch_norm`, which is an epsilon or a whole
/// configuration: a constant can't be converted by a trait, so each has its own method here.
#[derive(Clone, Copy, Debug)]
pub struct Eps<T>(pub T);

impl Eps<f64> {
    /// The layer norm with this epsilon.
    pub const fn layer_norm(self, spec: LayerNormSpec) -> LayerNormSpec {
        spec.eps(self.0)
    }

    /// The batch norm with this epsilon.
    pub const fn batch_norm(self, spec: BatchNormSpec) -> BatchNormSpec {
        spec.eps(self.0)
    }
}

impl Eps<LayerNormConfig> {
    /// The layer norm with this configuration.
    pub const fn layer_norm(self, spec: LayerNormSpec) -> LayerNormSpec {
        spec.config(self.0)
    }
}

impl Eps<BatchNormConfig> {
    /// The batch norm with this configuration.
    pub const fn batch_norm(self, spec: BatchNormSpec) -> BatchNormSpec {
        spec.config(self.0)
    }
}

/// What an epsilon is not. Implemented by nothing: its message is what `layer_norm(8, "1e-5")` gets.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an epsilon",
    label = "neither an `f64` nor the layer's configuration",
    note = "write a number such as `1e-5`, or the configuration that candle's constructor takes"
)]
pub trait Epsilon {
    /// No type.
    type Spec;

    /// Never called.
    fn never() -> Self::Spec;
}

/// The problem of an epsilon that is below zero, infinite or not a number.
pub(super) const fn eps(layer: &str, eps: f64) -> Option<Problem> {
    if eps >= 0. && eps <= f64::MAX {
        return None;
    }
    let found = if eps.is_nan() {
        ": eps is NaN"
    } else if eps < 0. {
        ": eps is negative"
    } else {
        ": eps is infinite"
    };
    Some(Problem::new(layer).text(found).text(", expected at least 0"))
}

/// Brings the last dimension to mean 0, where asked, and mean square 1.
pub(super) fn standardise(xs: &Tensor, remove_mean: bool, eps: f64) -> Result<Tensor> {
    // On CUDA, candle panics where it sums up nothing.
    if xs.elem_count() == 0 {
        return Ok(xs.clone());
    }
    let size = xs.dim(D::Minus1)? as f64;
    let values = xs.to_dtype(internal(xs.dtype()))?;
    let values = if remove_mean {
        values.broadcast_sub(&(values.sum_keepdim(D::Minus1)? / size)?)?
    } else {
        values
    };
    let mean_square = (values.sqr()?.sum_keepdim(D::Minus1)? / size)?;
    values.broadcast_div(&(mean_square + eps)?.sqrt()?)?.to_dtype(xs.dtype())
}

/// `xs` times a weight plus a bias, after both were brought to `shape`, which broadcasts to that of `xs`.
pub(super) fn scale(
    layer: &'static str,
    xs: &Tensor,
    params: &Affine,
    shape: impl Into<Shape>,
) -> Result<Tensor> {
    check_dtype(layer, xs, params)?;
    let shape = shape.into();
    let shaped = |param: &Param| param.reshaped(|tensor| tensor.reshape(&shape));
    let bias = params.bias.as_ref().map(shaped).transpose()?;
    gain(layer, xs, &shaped(&params.weight)?, bias.as_ref())
}

/// Checks that the standardised values, which have the input's dtype, have that of the weight.
fn check_dtype(layer: &str, xs: &Tensor, params: &Affine) -> Result<()> {
    ensure_same_dtype(layer, "the input", xs.dtype(), "the weight", params.weight().dtype())
}

/// `xs [G, R, S]` times a weight `[G, S]` plus a bias `[G, S]`.
pub(super) fn scale_rows(layer: &'static str, xs: &Tensor, params: &Affine) -> Result<Tensor> {
    check_dtype(layer, xs, params)?;
    let (sets, rows, size) = xs.dims3()?;
    let (weight, bias) = (&params.weight, params.bias.as_ref());
    // By a product the gradient of what is repeated is fast on the CPU. Without one there is nothing to repeat.
    let repeats = is_direct(xs) && !weight.is_view() && weight.collected()?.track_op();
    if !repeats {
        return scale(layer, xs, params, (sets, 1, size));
    }
    let ys = (xs * repeat_rows(&weight.collected()?, rows)?)?;
    let Some(bias) = bias.map(Param::collected).transpose()? else { return Ok(ys) };
    if bias.track_op() {
        return ys + repeat_rows(&bias, rows)?;
    }
    plus(layer, &ys, &bias.reshape((sets, 1, size))?)
}

/// The values of a batch `[B, channels, …]`, in the shape of that batch or any other, times a weight
/// `[G, channels]` plus a bias `[G, channels]`.
pub(super) fn scale_channels(
    layer: &'static str,
    xs: &Tensor,
    params: &Affine,
    batch: usize,
) -> Result<Tensor> {
    check_dtype(layer, xs, params)?;
    let (sets, channels) = params.weight().dims2()?;
    let lines = batch * channels;
    let per_line = xs.elem_count() / lines.max(1);
    if !is_direct(xs) || params.weight.is_view() {
        let xs = xs.reshape((sets, batch / sets, channels, per_line))?;
        return scale(layer, &xs, params, (sets, 1, channels, 1));
    }
    let (weight, bias) = params.to_tensors()?;
    let bias = bias.map(|bias| per_channel(&bias, batch)).transpose()?;
    let bias = bias.map(Param::from);
    let weight = per_channel(&weight, batch)?.into();
    gain(layer, &xs.reshape((lines, per_line))?, &weight, bias.as_ref())
}

/// Values per set and channel, `[G, C]`, for a batch whose rows and channels are flattened:
/// `[batch × C, 1]`.
pub(super) fn per_channel(values: &Tensor, batch: usize) -> Result<Tensor> {
    let (sets, channels) = values.dims2()?;
    let rows = values.unsqueeze(1)?.broadcast_as((sets, batch / sets, channels))?;
    rows.reshape((batch * channels, 1))
}
