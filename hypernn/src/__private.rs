//! What the macros' output names.

pub use candle_core::{Result, Tensor};
pub use std::borrow::Borrow;
pub use std::convert::AsRef;
pub use std::fmt::{Debug, Formatter, Result as FmtResult};
pub use std::path::Path;
pub use std::{option::Option, primitive::*, result::Result as StdResult};

pub use crate::check::Problem;
use crate::generator::GeneratorShape;
pub use crate::hypernetwork::{Declaration, StaticHyperNetwork};
pub use crate::target::NestedSpec;
pub use crate::target::layer::{Container, Parameters, Repeat, Visitor};
pub use crate::target::source::{ParamSource, TiedSource, scoped};
use crate::{HyperLayer, target::layer};

/// The names that may stand in `#[hyper(…)]`.
pub mod spec {
    pub use crate::nn::spec::*;
    pub use crate::target::tensor::tensor;
}

/// Why the field type `T` must not be generated, if so.
pub const fn refused<T: HyperLayer<S>, S>(_spec: &S) -> Option<&'static str> {
    T::REFUSED
}

/// Builds the layer of a field below its path.
///
/// # Errors
/// The layer's own.
pub fn build<T: HyperLayer<S>, S>(spec: &S, name: &str, source: &mut dyn ParamSource) -> Result<T> {
    scoped(source, name, |source| T::build(spec, source))
}

/// As [`build`], with the parameter `tied` taken from elsewhere.
///
/// # Errors
/// The layer's own, or a tensor of another shape.
pub fn build_tied<T: HyperLayer<S>, S>(
    spec: &S,
    name: &str,
    source: &mut dyn ParamSource,
    (tied, tensor): (&str, Tensor),
) -> Result<T> {
    scoped(source, name, |source| T::build(spec, &mut TiedSource::new(source, tied, tensor)))
}

/// The parameter `name` of a layer built before.
///
/// # Errors
/// The layer has none of that name.
pub fn parameter(layer: &impl Parameters, field: &str, name: &str) -> Result<Tensor> {
    let mut found = None;
    layer.visit(&mut |at, tensor| {
        if at == name {
            found = Some(tensor.clone());
        }
        Ok(())
    })?;
    found.ok_or_else(|| {
        candle_core::Error::msg(format!("`{field}` has no parameter `{name}` to tie"))
    })
}

/// Visits a layer's parameters but the tied one, which counts where it comes from.
///
/// # Errors
/// The visitor's own.
pub fn visit_untied(
    layer: &impl Parameters,
    tied: &str,
    visitor: &mut layer::Visitor<'_>,
) -> Result<()> {
    layer.visit(&mut |name, tensor| if name == tied { Ok(()) } else { visitor(name, tensor) })
}

/// The sizes of a declared hypernetwork.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Embeddings, their width and the chunks.
    pub shape: GeneratorShape,
    /// The number of the hypernetwork's own parameters.
    pub num_params: usize,
}

impl Sizes {
    /// What is wrong with them, if anything.
    pub const fn check(&self) -> Option<Problem> {
        self.shape.check()
    }
}
