//! The dtype of sums.

use candle_core::DType;

/// The dtype in which statistics are computed, as in candle.
pub(crate) fn internal(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        dtype => dtype,
    }
}
