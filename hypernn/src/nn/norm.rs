//! What the normalisations share.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::{BatchNormConfig, LayerNormConfig};

use super::{BatchNormSpec, LayerNormSpec};
use crate::check::Problem;
use crate::ops::product::repeat_rows;

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

/// The problem of an epsilon below zero.
pub(super) const fn negative(layer: &str, eps: f64) -> Option<Problem> {
    if eps >= 0. {
        return None;
    }
    Some(Problem::new(layer).text(": eps is negative, expected at least 0"))
}

/// The dtype in which statistics are computed, as in candle.
pub(super) fn internal(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        dtype => dtype,
    }
}

/// Brings the last dimension to mean 0, where asked, and mean square 1.
pub(super) fn standardise(xs: &Tensor, remove_mean: bool, eps: f64) -> Result<Tensor> {
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

/// `xs [G, R, S]` times `weight [G, S]` plus `bias [G, S]`.
pub(super) fn scale_rows(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let rows = xs.dim(1)?;
    let ys = (xs * repeat_rows(weight, rows)?)?;
    match bias {
        None => Ok(ys),
        Some(bias) => ys + repeat_rows(bias, rows)?,
    }
}

/// Values per set and channel, `[G, C]`, for a batch whose rows and channels are flattened:
/// `[batch × C, 1]`.
pub(super) fn per_channel(values: &Tensor, batch: usize) -> Result<Tensor> {
    let (sets, channels) = values.dims2()?;
    let rows = values.unsqueeze(1)?.broadcast_as((sets, batch / sets, channels))?;
    rows.reshape((batch * channels, 1))
}
