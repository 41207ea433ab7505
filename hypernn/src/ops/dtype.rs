//! The dtype of sums.

use candle_core::{DType, Result, Tensor};

/// The dtype in which statistics are computed, as in candle.
pub(crate) fn internal(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        dtype => dtype,
    }
}

/// A tensor in the dtype of its sums.
pub(crate) fn wide(tensor: &Tensor) -> Result<Tensor> {
    tensor.to_dtype(internal(tensor.dtype()))
}
