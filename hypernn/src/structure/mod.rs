//! What a target is made of: its layers, where their parameters come from, their roles, and how they lie in the flat
//! vector.

pub mod adapter;
mod forward;
pub mod layer;
pub mod layout;
pub(crate) mod name;
pub mod role;
pub mod source;
pub mod tensor;
pub mod value;

pub use forward::{ForwardTarget, ForwardTargetT, Outputs};
