//! The hypernetwork: embedding, weight generator and target in one.

mod audit;
mod checkpoint;
mod common;
mod core;
mod dynamic_network;
mod exact_audit;
mod expected_outputs;
mod finite_differences;
mod hyper_nn;
mod known_faults;
mod loss_function;
mod measures;
mod params;
mod peft;
mod scales;
mod static_network;
mod vars;
mod zero_part;

pub use self::audit::{Audit, Gradient};
pub use self::common::Hypernetwork;
pub use self::core::{Core, Declared};
pub use self::exact_audit::ExactAudit;
pub use self::finite_differences::Derivative;
pub use self::known_faults::{Fault, KNOWN_FAULTS, KnownFault};
pub use self::peft::PeftOptions;
pub use self::zero_part::ZeroPart;
pub use dynamic_network::{DynamicAux, DynamicHyperNetwork};
pub use static_network::{Aux, StaticHyperNetwork};
