//! The fields of a target.

use std::marker::PhantomData;

use candle_core::{Result, Tensor};

use super::invalid;
use crate::check::Problem;
use crate::flow::SampleShape;
use crate::target::NestedSpec;
use crate::target::layer::{Container, Parameters, Visitor};
use crate::target::role::Role;
use crate::target::source::{ParamSource, TiedSource, scoped};
use crate::{FixedTarget, HyperLayer, HyperTarget, ShapedTarget};

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
        Field { spec: self.0, role: None, refused, takes_sets, build: T::build }
    }
}

impl<'a, B> Spec<'a, NestedSpec<B>> {
    /// As [`of`](Self::of), for a field that is a target itself.
    pub const fn target<T: HyperTarget>(self) -> Field<'a, T, NestedSpec<B>>
    where
        B: Configures<T::Config>,
    {
        let build =
            |spec: &NestedSpec<B>, source: &mut dyn ParamSource| T::build(spec.0.config(), source);
        Field { spec: self.0, role: None, refused: None, takes_sets: true, build }
    }
}

/// A field's type and its spec.
#[derive(Debug)]
pub struct Field<'a, T, S> {
    spec: &'a S,
    role: Option<Role>,
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

    /// The same with a role, which holds for all that is below.
    pub const fn with_role(self, role: Role) -> Self {
        Self { role: Some(role), ..self }
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
            let Some(role) = self.role else { return build(source) };
            source.enter_role(role);
            let built = build(source)?;
            source.leave_role()?;
            Ok(built)
        })
    }
}

/// Stands in for the methods of [`Eps`](crate::nn::Eps) where it holds no epsilon.
pub trait NoEpsilon<T> {
    /// Reports the one error.
    fn layer_norm<S>(self, spec: S) -> S
    where
        Self: Sized,
        T: Epsilon,
    {
        spec
    }

    /// Reports the one error.
    fn batch_norm<S>(self, spec: S) -> S
    where
        Self: Sized,
        T: Epsilon,
    {
        spec
    }
}

impl<T> NoEpsilon<T> for crate::nn::Eps<T> {}

/// Implemented by nothing, for its message.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an epsilon",
    label = "neither an `f64` nor the layer's configuration",
    note = "write a number such as `1e-5`, or the configuration that candle's constructor takes"
)]
pub trait Epsilon {}

/// Stands in for the size of a layer's low-rank adapters where the layer has none.
pub trait NoAdapter {
    /// Reports the one error.
    fn adapter(&self, _rank: usize) -> Self::Size
    where
        Self: Adaptable,
    {
        Self::never()
    }
}

impl<S> NoAdapter for S {}

/// Implemented by nothing, for its message.
#[diagnostic::on_unimplemented(
    message = "a layer of `{Self}` can't have the role `lora`",
    label = "none of its tensors is a matrix or a kernel",
    note = "a spec of your own gives the size of its adapters by `const fn adapter(&self, rank: usize) -> AdapterSize`"
)]
pub trait Adaptable {
    /// No type.
    type Size;

    /// Never called.
    fn never() -> Self::Size;
}

/// The problem of an array of another length than the number of its layers.
pub const fn array(field: &str, len: usize, layers: usize) -> Option<Problem> {
    if len == layers {
        return None;
    }
    let problem = Problem::new("field `").text(field).text("`: an array of ").number(len);
    Some(problem.text(" can't hold ").number(layers).text(" layers"))
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
        let found = self.0.reused(name)?;
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

impl<T: Container> ShapedTarget for ItemOf<T>
where
    T::Item: ShapedTarget,
{
    const INPUT_SHAPE: SampleShape = T::Item::INPUT_SHAPE;
    const OUTPUT_SHAPE: SampleShape = T::Item::OUTPUT_SHAPE;
}

impl<T: Container> Container for ItemOf<T>
where
    T::Item: Container,
{
    type Item = <T::Item as Container>::Item;
}
