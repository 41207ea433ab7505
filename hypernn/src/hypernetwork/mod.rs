//! The hypernetwork: embedding, weight generator and target in one.

mod audit;
mod checkpoint;
mod common;
mod core;
mod dynamic_network;
mod exact;
mod given;
mod hyper_nn;
mod known;
mod params;
mod scales;
mod slope;
mod static_network;
mod surface;
mod vars;
mod zero_part;

pub use self::audit::{Audit, Gradient};
pub use self::common::Hypernetwork;
pub use self::core::{Core, Declared};
pub use self::exact::ExactAudit;
pub use self::known::{Fault, KNOWN_FAULTS, KnownFault};
pub use self::slope::Derivative;
pub use self::zero_part::ZeroPart;
pub use dynamic_network::{DynamicAux, DynamicHyperNetwork};
pub use static_network::{Aux, StaticHyperNetwork};
