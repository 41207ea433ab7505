//! The softmax over the last dimension.

use candle_core::{D, Result, Tensor};

/// `eˣ` over its sum, `[…, n]`.
pub(crate) fn softmax(xs: &Tensor) -> Result<Tensor> {
    // On CUDA, candle can't sum up nothing.
    if xs.elem_count() == 0 {
        return Ok(xs.clone());
    }
    candle_nn::ops::softmax(xs, D::Minus1)
}
