//! What a backward pass gives the tensors of a split.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::accumulator::GradientAccumulator;

/// Sees what a backward pass gives each tensor of a split.
#[derive(Clone)]
pub(crate) struct Watch(pub(super) Arc<GradientAccumulator>);

impl Watch {
    /// Runs a backward pass on this thread, and gives the gradient of each tensor that it reached.
    pub(crate) fn pass<R>(
        &self,
        pass: impl FnOnce() -> Result<R>,
    ) -> Result<(R, Vec<Option<Tensor>>)> {
        self.0.watch(pass)
    }

    /// Whether both see the same split.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
