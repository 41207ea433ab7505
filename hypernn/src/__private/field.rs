//! The fields of a target.

use std::marker::PhantomData;

use candle_core::Result;

use super::invalid;
use crate::check::Problem;
use crate::flow::{Given, SampleShape};
use crate::hyper_target::{Configures, NestedSpec};
use crate::info::{HasInfo, HasShapes, LayerInfo};
use crate::nn::Epsilon;
use crate::param::Param;
use crate::structure::layer::{Container, LayerOf, Parameters, Visitor};
use crate::structure::role::Role;
use crate::structure::source::{ParamSource, TiedSource, scoped};
use crate::{FixedTarget, HyperLayer, HyperTarget, ShapedTarget};

/// The spec of a field.
#[derive(Debug)]
pub struct Spec<'a, S>(pub &'a S);

impl<'a, S> Spec<'a, S> {
    /// The field's type and its spec, brought together.
    ///
    /// `layer` is always `HyperLayer::OF`. Of all that the macros use, only this path asks for a
    /// layer, so that a type that is none is one error; and both types are known by the time that it is
    /// looked at, so that the error names them.
    pub const fn of<T>(self, layer: LayerOf<T, S>) -> Field<'a, T, S> {
        Field { spec: self.0, role: None, layer }
    }
}

/// `B`, as what configures `T`.
type Configured<B, T> = <B as Configures<<T as HyperTarget>::Config>>::Itself;

impl<'a, B> Spec<'a, NestedSpec<B>> {
    /// The field of this spec whose layer is a target itself.
    pub const fn target<T: HyperTarget>(self) -> Field<'a, T, NestedSpec<Configured<B, T>>>
    where
        B: Configures<T::Config, Itself = B>,
    {
        let build =
            |spec: &NestedSpec<B>, source: &mut dyn ParamSource| T::build(spec.0.config(), source);
        let layer = LayerOf { refused: None, takes_sets: T::TAKES_SETS, build };
        Field { spec: self.0, role: None, layer }
    }
}

/// A field's type and its spec.
#[derive(Debug)]
pub struct Field<'a, T, S> {
    spec: &'a S,
    role: Option<Role>,
    layer: LayerOf<T, S>,
}

impl<T, S> Field<'_, T, S> {
    /// Fails to evaluate where the field's type must not be generated.
    #[track_caller]
    pub const fn deny(&self, field: &str) {
        super::deny(self.refused(field));
    }

    /// Why the field's type must not be generated, if so.
    const fn refused(&self, field: &str) -> Option<Problem> {
        match self.layer.refused {
            Some(reason) => Some(Problem::new("field `").text(field).text("`: ").text(reason)),
            None => None,
        }
    }

    /// This field with a role, which holds for all tensors below it.
    pub const fn with_role(self, role: Role) -> Self {
        Self { role: Some(role), ..self }
    }

    /// Builds the layer below its path.
    ///
    /// # Errors
    /// The layer's own.
    pub fn build(&self, name: &str, source: &mut dyn ParamSource) -> Result<T> {
        self.scoped(name, source, |source| (self.layer.build)(self.spec, source))
    }

    /// Builds the layer below its path, with the parameter `tied` taken from another field.
    ///
    /// # Errors
    /// The layer's own, or a tensor of another shape.
    pub fn build_tied(
        &self,
        name: &str,
        source: &mut dyn ParamSource,
        (tied, param): (&str, Param),
    ) -> Result<T> {
        self.scoped(name, source, |source| {
            (self.layer.build)(self.spec, &mut TiedSource::new(source, tied, param))
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
            if !self.layer.takes_sets {
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

impl<T: HyperLayer<S>, S> Field<'_, T, S> {
    /// The spec of a layer in the field.
    pub const fn known<'a, L>(&self, layer: &'a L) -> &'a L {
        layer
    }
}

/// Stands in for the specs of a field whose type is built from no such thing, which [`Spec::of`] reports.
pub trait NoLayer {
    /// A spec that nothing is wrong with.
    fn known<L>(&self, _layer: &L) -> &'static NoSpec {
        &NoSpec
    }
}

impl<T, S> NoLayer for Field<'_, T, S> {}

/// The spec of no layer.
#[derive(Debug)]
pub struct NoSpec;

impl NoSpec {
    /// No tensors, any shape and no problem; of an adapter, as if it could have one.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new("nothing").tensor("", &[1, 1])
    }

    /// Any shape.
    pub const fn gives(&self, _input: &SampleShape) -> Given {
        Given::Shape(SampleShape::ANY)
    }
}

/// Stands in for the methods of [`Eps`](crate::nn::Eps) where it holds no epsilon.
pub trait NoEpsilon: Sized {
    /// What it holds instead.
    type Found;

    /// Reports the one error.
    fn layer_norm<S>(self, _spec: S) -> <Self::Found as Epsilon>::Spec
    where
        Self::Found: Epsilon,
    {
        Self::Found::never()
    }

    /// Reports the one error.
    fn batch_norm<S>(self, _spec: S) -> <Self::Found as Epsilon>::Spec
    where
        Self::Found: Epsilon,
    {
        Self::Found::never()
    }
}

impl<T> NoEpsilon for crate::nn::Eps<T> {
    type Found = T;
}

/// Stands in for the function `info` of a layer's or a step's spec that has none.
pub trait NoInfo {
    /// Reports the one error.
    fn info(&self) -> Self::Info
    where
        Self: HasInfo,
    {
        Self::never()
    }
}

impl<S: ?Sized> NoInfo for S {}

/// Stands in for the function `gives` of a layer's or a step's spec that has none.
pub trait NoShapes {
    /// Reports the one error.
    fn gives(&self, _input: &SampleShape) -> Self::Given
    where
        Self: HasShapes,
    {
        Self::never()
    }
}

impl<S: ?Sized> NoShapes for S {}

/// The problem of an array of another length than the number of its layers.
pub const fn array(field: &str, len: usize, layers: usize) -> Option<Problem> {
    if len == layers {
        return None;
    }
    let problem = Problem::new("field `").text(field).text("`: an array of ").number(len);
    Some(problem.text(" can't hold ").number(layers).text(" layers"))
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
    pub fn parameter(&self, field: &str, name: &str) -> Result<Param> {
        let found = self.0.reused(name)?;
        found.ok_or_else(|| {
            crate::error::declaration(format!("`{field}` has no parameter `{name}` to tie"))
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
    fn parameter(&self, _field: &str, _name: &str) -> Result<Param> {
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
    const INPUT_SHAPES: &'static [SampleShape] = T::Item::INPUT_SHAPES;
    const OUTPUT_SHAPES: &'static [SampleShape] = T::Item::OUTPUT_SHAPES;
}

impl<T: Container> Container for ItemOf<T>
where
    T::Item: Container,
{
    type Item = <T::Item as Container>::Item;

    /// None: it stands for a type alone.
    fn items(&self) -> impl Iterator<Item = &Self::Item> {
        std::iter::empty()
    }
}
