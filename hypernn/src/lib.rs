//! Hypernetworks for candle.

pub mod check;
pub mod generated;
pub mod nn;
mod ops;
pub mod target;

pub use target::layer::HyperLayer;
pub use target::layout::Layout;
pub use target::{FixedTarget, HyperTarget};
