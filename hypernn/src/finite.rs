//! Values that are NaN or infinite, by name.

use candle_core::{DType, Result, Tensor};

use crate::error::bail;

/// Whether all values are finite: `what` has them in the error.
///
/// # Errors
/// Some are not: their number, and the index of the first.
pub(crate) fn ensure_finite(what: impl Fn() -> String, tensor: &Tensor) -> Result<()> {
    let values = tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let Some(first) = values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let bad = values.iter().filter(|value| !value.is_finite()).count();
    bail!(
        not_finite,
        "{}: {bad} of {} values are not finite, the first at index {first} is {}",
        what(),
        values.len(),
        values[first]
    )
}
