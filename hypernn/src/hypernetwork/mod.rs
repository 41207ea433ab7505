//! The hypernetwork: embedding, weight generator and target in one.
//!
//! [`hypernetwork!`](macro@crate::hypernetwork) emits a type around a [`StaticHyperNetwork`] or a [`DynamicHyperNetwork`], to
//! which it derefs; both deref to [`Core`], which has layout, variables and files. Code that serves both is generic over
//! [`Hypernetwork`].
//!
//! ```
//! use candle_core::{DType, Device, Result, Tensor};
//! use hypernn::nn::{Linear, Module, VarBuilder, VarMap};
//! use hypernn::{HyperTarget, Hypernetwork, hypernetwork};
//!
//! #[derive(HyperTarget)]
//! #[hyper(sequential)]
//! struct Net {
//!     #[hyper(linear(4, 2))]
//!     fc: Linear,
//! }
//!
//! hypernetwork! {
//!     struct Static for Net { embedding: table(5, 3), generator: linear, mode: static }
//!     struct PerTask for Net { embedding: tasks(3, 5, 3), generator: linear, mode: dynamic }
//! }
//!
//! /// The output for some input, and the number of trained values.
//! fn describe<T: Module, H: Hypernetwork<T>>(
//!     hyper: &H,
//!     condition: &H::Condition,
//!     xs: &Tensor,
//! ) -> Result<(Tensor, usize)> {
//!     Ok((hyper.generate(condition)?.forward(xs)?, hyper.core().num_params()))
//! }
//!
//! # fn main() -> Result<()> {
//! let builder = || VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
//! let xs = Tensor::ones((6, 4), DType::F32, &Device::Cpu)?;
//! let (ys, count) = describe(&Static::new(builder())?, &(), &xs)?;
//! assert_eq!((ys.dims(), count), (&[6, 2][..], 5 * 3 + (3 + 1) * 2));
//! let task = Tensor::new(2u32, &Device::Cpu)?;
//! let (ys, count) = describe(&PerTask::new(builder())?, &task, &xs)?;
//! assert_eq!((ys.dims(), count), (&[6, 2][..], 3 * 5 * 3 + (3 + 1) * 2));
//! # Ok(())
//! # }
//! ```

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
mod summary;
mod vars;
mod zero_part;

pub use self::audit::{Audit, Gradient};
pub use self::common::Hypernetwork;
pub use self::core::{Core, Declared};
pub use self::exact_audit::ExactAudit;
pub use self::finite_differences::Derivative;
pub use self::known_faults::{Fault, KNOWN_FAULTS, KnownFault};
pub use self::peft::PeftOptions;
pub use self::summary::{Summary, TensorSummary};
pub use self::zero_part::ZeroPart;
pub use dynamic_network::{DynamicAux, DynamicHyperNetwork};
pub use static_network::{Aux, StaticHyperNetwork};
