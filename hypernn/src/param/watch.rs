//! Whether a forward looks at the weights of its layers.

use std::cell::Cell;

use candle_core::Tensor;

thread_local! {
    /// Whether the forward that runs on this thread was shown weights of several sets.
    static SHOWN: Cell<bool> = const { Cell::new(false) };
}

/// A weight as a layer shows it to all others, whose rank is `rank` where it is shared by all rows.
pub(crate) fn shown(weight: &Tensor, rank: usize) -> &Tensor {
    if weight.rank() > rank {
        SHOWN.set(true);
    }
    weight
}

/// Runs a forward, and says whether it was shown weights of several sets: what it does with their first
/// dimension nobody knows.
pub(crate) fn watch_weights<R>(forward: impl FnOnce() -> R) -> (R, bool) {
    let around = SHOWN.replace(false);
    let result = forward();
    (result, SHOWN.replace(around))
}
