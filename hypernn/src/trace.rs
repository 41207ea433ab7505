//! Spans of the `tracing` crate, where the feature of that name is on.

/// Enters a span of this name, with the name of what it is about, to the end of the block.
macro_rules! span {
    ($name:literal, $of:expr) => {
        #[cfg(feature = "tracing")]
        let _entered = tracing::debug_span!($name, of = $of).entered();
    };
}
pub(crate) use span;
