//! Values that are not there until a layer asks for them.

use candle_core::{Result, Tensor};

/// Computes the values of a parameter, anew each time.
pub(crate) trait Deferred: Send + Sync {
    /// The values, which depend on nothing that a gradient is asked for.
    ///
    /// # Errors
    /// candle's own.
    fn values(&self) -> Result<Tensor>;
}
