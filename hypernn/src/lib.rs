//! Hypernetworks for candle.

pub mod check;
pub mod condition;
pub mod embedding;
pub mod generated;
pub mod generator;
pub mod hypernetwork;
pub mod init;
mod mlp;
pub mod nn;
mod ops;
mod plan;
pub mod seeded;
pub mod target;

pub use condition::Condition;
pub use embedding::State;
pub use generated::GeneratedParams;
pub use hypernetwork::{Aux, DynamicAux};
pub use hypernn_macros::{HyperTarget, hypernetwork};
pub use plan::ChunkPlan;
pub use target::layer::{HyperLayer, Parameters};
pub use target::layout::Layout;
pub use target::{FixedTarget, HyperTarget};

/// What the macros' output names; not for use by hand.
#[doc(hidden)]
pub mod __private;
