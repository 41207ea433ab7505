//! What the macros' output names. Nothing here is for use by hand, and it may change at any time.
//!
//! Much of it exists for the sake of messages: where a user's type is not what the macro needs, one
//! place asks for it and reports the one error, and everywhere else a stand-in takes its place.

mod field;
mod part;
mod sizes;
mod step_of;
mod target;
mod value;

pub use std::boxed::Box;
pub use std::clone::Clone;
pub use std::convert::{AsRef, Into};
pub use std::fmt::{Debug, Formatter, Result as FmtResult};
pub use std::marker::{Send, Sync};
pub use std::ops::{Deref, DerefMut, Fn};
pub use std::option::Option;
pub use std::path::Path;
pub use std::primitive::*;
pub use std::result::Result as StdResult;
pub use std::stringify;
pub use std::vec::Vec;

pub use candle_core::{DType, Result, Tensor, Var};
pub use hypernn_macros::Declaration;

pub use self::field::{
    Field, FieldRef, ItemOf, NoEpsilon, NoInfo, NoLayer, NoParameters, NoShapes, NoSpec, Spec,
    array,
};
pub use self::part::{NoEmbeddingInfo, NoGeneratorInfo, NoPart, Part};
pub use self::sizes::Sizes;
pub use self::step_of::{StepOf, UnknownStep};
pub use self::target::{NoTarget, TargetOf};
pub use self::value::{MadeAnew, MadeOnce, ValueOf, made_anew};
pub use crate::check::{Problem, ensure};
pub use crate::condition::own::{
    ConditionIsOne, ConditionIsVector, InputIsCondition, OwnCondition,
};
pub use crate::embedding::{ConditionedEmbeddingSpec, EmbeddingSpec};
pub use crate::flow::{
    Chain, Join, JoinPlaces, JoinT, Network, NodeAt, NodePlace, SampleShape, Size, Step, StepT,
    Value,
};
pub use crate::generated::{GeneratedParams, TargetPlan};
pub use crate::generator::{ConditionedGeneratorSpec, GeneratorSpec};
pub use crate::hyper_target::{Configures, NestedSpec};
pub use crate::hypernetwork::{Core, Declared, DynamicHyperNetwork, StaticHyperNetwork};
pub use crate::info::{EmbeddingInfo, GeneratorInfo, LayerInfo};
pub use crate::nn::{Eps, Module, ModuleT, step};
pub use crate::structure::layer::{Container, Parameters, Repeat, Visitor};
pub use crate::structure::role;
pub use crate::structure::role::Role;
pub use crate::structure::source::{ParamSource, TiedSource, scoped};
pub use crate::structure::{ForwardTarget, ForwardTargetT};
pub use crate::{FixedTarget, HyperLayer, HyperTarget, ShapedTarget};

/// The names that may stand in `#[hyper(…)]`.
pub mod spec {
    pub use super::{MadeAnew as _, MadeOnce as _, NoEpsilon as _, NoInfo as _, NoShapes as _};
    pub use crate::nn::spec::*;
    pub use crate::structure::tensor::tensor;
}

/// Fails to evaluate where there is a problem, with its message.
#[track_caller]
#[allow(clippy::panic, reason = "a constant has no other way to report an error")]
pub const fn deny(problem: Option<Problem>) {
    if let Some(problem) = problem {
        panic!("{}", problem.message());
    }
}

/// What a target of several inputs says to another number of them.
///
/// # Errors
/// Always.
pub fn wrong_number_of_inputs<T>(target: &str, expected: usize, found: usize) -> Result<T> {
    crate::error::bail!(shape, "{target}: {found} inputs, expected {expected}")
}

/// The outputs of a step, of which `N` are expected.
///
/// # Errors
/// There is another number of them.
pub fn parts<'a, const N: usize>(
    step: &str,
    outputs: &'a impl crate::structure::Outputs,
) -> Result<[&'a Tensor; N]> {
    let tensors = outputs.tensors();
    let found = tensors.len();
    <[&Tensor; N]>::try_from(tensors)
        .or_else(|_| crate::error::bail!(shape, "`{step}` gives {found} values, expected {N}"))
}

/// What a target whose declaration does not compile builds.
///
/// # Errors
/// Always.
pub fn invalid<T>() -> Result<T> {
    candle_core::bail!("the target's declaration has errors")
}
