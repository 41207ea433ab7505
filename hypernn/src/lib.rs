//! Hypernetworks for candle.

pub mod check;
pub mod generated;
pub mod nn;
mod ops;
pub mod target;

pub use hypernn_macros::HyperTarget;
pub use target::layer::{HyperLayer, Parameters};
pub use target::layout::Layout;
pub use target::{FixedTarget, HyperTarget};

/// What the macros' output names; not for use by hand.
#[doc(hidden)]
pub mod __private;
