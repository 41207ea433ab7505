//! The hypernetwork: embedding, weight generator and target in one.

mod audit;
mod checkpoint;
mod common;
mod core;
mod dynamic_network;
mod given;
mod hyper_nn;
mod params;
mod static_network;
mod vars;

pub use self::audit::{Audit, Gradient};
pub use self::common::{Hypernetwork, NetworkRef};
pub use self::core::Declared;
pub use dynamic_network::{DynamicAux, DynamicHyperNetwork};
pub use static_network::{Aux, StaticHyperNetwork};
