//! What adapts a parameter.

use super::Param;

/// A generated difference of low rank, `scale × up · down`.
#[derive(Clone, Debug)]
pub(crate) struct Adapter {
    /// `[rank, in]`, or `[G, rank, in]`.
    pub(crate) down: Param,
    /// `[out, rank]`, or `[G, out, rank]`.
    pub(crate) up: Param,
    /// `alpha / rank`.
    pub(crate) scale: f64,
    /// The part of the input that is dropped; 0 unless the target is built for training.
    pub(crate) dropout: f32,
}

impl Adapter {
    /// The number of sets, 1 where it is shared.
    pub(crate) fn sets(&self) -> usize {
        let up = self.up.dims();
        up[..up.len() - 2].iter().product()
    }
}
