//! What the macros' output names.

use std::marker::PhantomData;

pub use candle_core::{Result, Tensor};
pub use std::convert::AsRef;
pub use std::fmt::{Debug, Formatter, Result as FmtResult};
pub use std::ops::FnMut;
pub use std::path::Path;
pub use std::{option::Option, primitive::*, result::Result as StdResult};

pub use crate::check::Problem;
use crate::condition::Condition;
use crate::generator::GeneratorShape;
pub use crate::hypernetwork::{Declared, DynamicHyperNetwork, StaticHyperNetwork};
pub use crate::target::NestedSpec;
pub use crate::target::layer::{Container, Parameters, Repeat, Visitor};
pub use crate::target::source::{ParamSource, TiedSource, scoped};
use crate::{FixedTarget, HyperLayer};

/// The names that may stand in `#[hyper(…)]`.
pub mod spec {
    pub use crate::nn::spec::*;
    pub use crate::target::tensor::tensor;
}

/// The spec of a field.
#[derive(Debug)]
pub struct Spec<'a, S>(pub &'a S);

impl<'a, S> Spec<'a, S> {
    /// The field's type and its spec, brought together.
    ///
    /// Of all that the macros use, only this asks for a layer, so that a type that is none is one
    /// error; and it knows the spec's type by then, so that the error names both.
    pub const fn of<T: HyperLayer<S>>(self) -> Field<'a, T, S> {
        let (refused, takes_sets) = (T::REFUSED, T::TAKES_SETS);
        Field { spec: self.0, refused, takes_sets, build: T::build }
    }
}

/// A field's type and its spec.
#[derive(Debug)]
pub struct Field<'a, T, S> {
    spec: &'a S,
    refused: Option<&'static str>,
    takes_sets: bool,
    build: fn(&S, &mut dyn ParamSource) -> Result<T>,
}

impl<T, S> Field<'_, T, S> {
    /// Why the field's type must not be generated, if so.
    pub const fn refused(&self, field: &str) -> Option<Problem> {
        match self.refused {
            Some(reason) => Some(Problem::new("field `").text(field).text("`: ").text(reason)),
            None => None,
        }
    }

    /// Builds the layer below its path.
    ///
    /// # Errors
    /// The layer's own.
    pub fn build(&self, name: &str, source: &mut dyn ParamSource) -> Result<T> {
        self.scoped(name, source, |source| (self.build)(self.spec, source))
    }

    /// As [`build`](Self::build), with the parameter `tied` taken from elsewhere.
    ///
    /// # Errors
    /// The layer's own, or a tensor of another shape.
    pub fn build_tied(
        &self,
        name: &str,
        source: &mut dyn ParamSource,
        (tied, tensor): (&str, Tensor),
    ) -> Result<T> {
        self.scoped(name, source, |source| {
            (self.build)(self.spec, &mut TiedSource::new(source, tied, tensor))
        })
    }

    fn scoped(
        &self,
        name: &str,
        source: &mut dyn ParamSource,
        build: impl FnOnce(&mut dyn ParamSource) -> Result<T>,
    ) -> Result<T> {
        crate::check::ensure(self.refused(name))?;
        scoped(source, name, |source| {
            if !self.takes_sets {
                source.takes_one_set();
            }
            build(source)
        })
    }
}

/// Fails to evaluate where there is a problem, with its message.
#[track_caller]
#[allow(clippy::panic, reason = "a constant has no other way to report an error")]
pub const fn deny(problem: Option<Problem>) {
    if let Some(problem) = problem {
        panic!("{}", problem.message());
    }
}

/// What can configure a target whose `Config` is `C`.
#[diagnostic::on_unimplemented(
    message = "a field whose target is configured by a `{C}` can't take `{Self}`",
    label = "this target has another configuration",
    note = "the attribute passes the configuration: `#[hyper(target(EXPR))]`, where EXPR is a `{C}` or a reference to one"
)]
pub trait Configures<C> {
    /// The configuration.
    fn config(&self) -> &C;
}

impl<C> Configures<C> for C {
    fn config(&self) -> &C {
        self
    }
}

impl<C> Configures<C> for &C {
    fn config(&self) -> &C {
        self
    }
}

/// A value for code that is type-checked and never run.
pub fn any<T>() -> T {
    loop {
        std::thread::park();
    }
}

/// What a target whose declaration does not compile builds.
///
/// # Errors
/// Always.
pub fn invalid<T>() -> Result<T> {
    candle_core::bail!("the target's declaration has errors")
}

/// The parameters of a field, if its type has any.
///
/// The inherent methods apply where it has; elsewhere those of [`NoParameters`] do, and building
/// the field reports the one error.
#[derive(Debug)]
pub struct FieldRef<'a, T>(pub &'a T);

impl<T: Parameters> FieldRef<'_, T> {
    /// Visits the parameters.
    ///
    /// # Errors
    /// The visitor's own.
    pub fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.0.visit(visitor)
    }

    /// Visits the parameters but the tied one, which counts where it comes from.
    ///
    /// # Errors
    /// The visitor's own.
    pub fn visit_untied(&self, tied: &str, visitor: &mut Visitor<'_>) -> Result<()> {
        self.0.visit(&mut |name, tensor| if name == tied { Ok(()) } else { visitor(name, tensor) })
    }

    /// The parameter `name` of field `field`.
    ///
    /// # Errors
    /// The layer has none of that name.
    pub fn parameter(&self, field: &str, name: &str) -> Result<Tensor> {
        let mut found = None;
        self.0.visit(&mut |at, tensor| {
            if at == name {
                found = Some(tensor.clone());
            }
            Ok(())
        })?;
        found.ok_or_else(|| {
            candle_core::Error::msg(format!("`{field}` has no parameter `{name}` to tie"))
        })
    }
}

/// Stands in for [`FieldRef`]'s methods where the field's type has no parameters.
pub trait NoParameters {
    /// Never called in a program that compiles.
    ///
    /// # Errors
    /// Always.
    fn visit(&self, _visitor: &mut Visitor<'_>) -> Result<()> {
        invalid()
    }

    /// Never called in a program that compiles.
    ///
    /// # Errors
    /// Always.
    fn visit_untied(&self, _tied: &str, _visitor: &mut Visitor<'_>) -> Result<()> {
        invalid()
    }

    /// Never called in a program that compiles.
    ///
    /// # Errors
    /// Always.
    fn parameter(&self, _field: &str, _name: &str) -> Result<Tensor> {
        invalid()
    }
}

impl<T> NoParameters for FieldRef<'_, T> {}

/// What a container `T` holds; for a type that is no container it is nothing, not an error.
#[derive(Debug)]
pub struct ItemOf<T>(PhantomData<T>);

impl<T: Container> FixedTarget for ItemOf<T>
where
    T::Item: FixedTarget,
{
    const NUM_PARAMS: usize = <T::Item as FixedTarget>::NUM_PARAMS;
}

impl<T: Container> Container for ItemOf<T>
where
    T::Item: Container,
{
    type Item = <T::Item as Container>::Item;
}

/// The sizes of a declared hypernetwork.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Embeddings, their width and the chunks.
    pub shape: GeneratorShape,
    /// The number of the hypernetwork's own parameters.
    pub num_params: usize,
    /// What embedding and generator are conditioned on, where the hypernetwork is dynamic.
    pub conditions: Option<(Condition, Condition)>,
}

impl Sizes {
    /// What is wrong with them, if anything.
    pub const fn check(&self) -> Option<Problem> {
        match (self.shape.check(), self.conditions) {
            (None, Some((embedding, generator))) => Condition::check(embedding, generator),
            (problem, _) => problem,
        }
    }

    /// The conditions of a dynamic hypernetwork.
    pub const fn conditions(&self) -> (Condition, Condition) {
        match self.conditions {
            Some(conditions) => conditions,
            None => (Condition::None, Condition::None),
        }
    }
}
