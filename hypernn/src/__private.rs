//! What the macros' output names.

use std::marker::PhantomData;

pub use candle_core::{Result, Tensor};
pub use std::convert::AsRef;
pub use std::fmt::{Debug, Formatter, Result as FmtResult};
pub use std::ops::FnMut;
pub use std::path::Path;
pub use std::stringify;
pub use std::{option::Option, primitive::*, result::Result as StdResult};

pub use crate::check::Problem;
use crate::condition::Condition;
use crate::embedding::{ConditionedEmbeddingSpec, EmbeddingSpec};
pub use crate::generated::TargetPlan;
use crate::generator::{ConditionedGeneratorSpec, GeneratorShape, GeneratorSpec};
pub use crate::hypernetwork::{Declared, DynamicHyperNetwork, StaticHyperNetwork};
pub use crate::target::NestedSpec;
pub use crate::target::layer::{Container, Parameters, Repeat, Visitor};
pub use crate::target::source::{ParamSource, TiedSource, scoped};
use crate::{FixedTarget, HyperLayer, HyperTarget};

/// The names that may stand in `#[hyper(…)]`.
pub mod spec {
    pub use super::NoEpsilon as _;
    pub use crate::nn::spec::*;
    pub use crate::target::tensor::tensor;
}

/// Stands in for the methods of [`Eps`](crate::nn::spec::Eps) where it holds no epsilon.
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

impl<T> NoEpsilon<T> for crate::nn::spec::Eps<T> {}

/// Implemented by nothing, for its message.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an epsilon",
    label = "neither an `f64` nor the layer's configuration",
    note = "write a number such as `1e-5`, or the configuration that candle's constructor takes"
)]
pub trait Epsilon {}

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

impl<'a, B> Spec<'a, NestedSpec<B>> {
    /// As [`of`](Self::of), for a field that is a target itself.
    pub const fn target<T: HyperTarget>(self) -> Field<'a, T, NestedSpec<B>>
    where
        B: Configures<T::Config>,
    {
        let build =
            |spec: &NestedSpec<B>, source: &mut dyn ParamSource| T::build(spec.0.config(), source);
        Field { spec: self.0, refused: None, takes_sets: true, build }
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

/// What follows `embedding:` or `generator:`, from where it is used.
///
/// The inherent methods apply where it can be that; elsewhere those of [`NoPart`] do, which report
/// the one error and return nothing that another could be about.
#[derive(Debug)]
pub struct Part<'a, S>(pub &'a S);

impl<'a, S: EmbeddingSpec> Part<'a, S> {
    /// The embedding.
    pub const fn embedding(self) -> &'a S {
        self.0
    }
}

impl<'a, S: GeneratorSpec> Part<'a, S> {
    /// The generator.
    pub const fn generator(self) -> &'a S {
        self.0
    }
}

impl<'a, S: ConditionedEmbeddingSpec> Part<'a, S> {
    /// The embedding of a dynamic hypernetwork.
    pub const fn conditioned_embedding(self) -> &'a S {
        self.0
    }
}

impl<'a, S: ConditionedGeneratorSpec> Part<'a, S> {
    /// The generator of a dynamic hypernetwork.
    pub const fn conditioned_generator(self) -> &'a S {
        self.0
    }
}

/// Stands in for the methods of [`Part`].
pub trait NoPart<S> {
    /// Reports the one error.
    fn embedding(self) -> S::Itself
    where
        Self: Sized,
        S: StaticEmbedding,
    {
        S::never()
    }

    /// Reports the one error.
    fn generator(self) -> S::Itself
    where
        Self: Sized,
        S: StaticGenerator,
    {
        S::never()
    }

    /// Reports the one error.
    fn conditioned_embedding(self) -> S::Itself
    where
        Self: Sized,
        S: DynamicEmbedding,
    {
        S::never()
    }

    /// Reports the one error.
    fn conditioned_generator(self) -> S::Itself
    where
        Self: Sized,
        S: DynamicGenerator,
    {
        S::never()
    }
}

impl<S> NoPart<S> for Part<'_, S> {}

/// Implemented by nothing, for its message.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the embedding of a static hypernetwork",
    label = "not an embedding without a condition",
    note = "write `table(64, 8)`, or a value whose type implements `hypernn::embedding::EmbeddingSpec`",
    note = "an embedding that takes the input needs `mode: dynamic`"
)]
pub trait StaticEmbedding {
    /// No type.
    type Itself;

    /// Never called.
    fn never() -> Self::Itself;
}

/// Implemented by nothing, for its message.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the generator of a static hypernetwork",
    label = "not a generator without a condition",
    note = "write `linear`, `mlp([32], tanh)`, `low_rank(8)` or `heads`, or a value whose type implements `hypernn::generator::GeneratorSpec`",
    note = "a generator that takes the input needs `mode: dynamic`"
)]
pub trait StaticGenerator {
    /// No type.
    type Itself;

    /// Never called.
    fn never() -> Self::Itself;
}

/// Implemented by nothing, for its message.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the embedding of a hypernetwork",
    label = "not an embedding",
    note = "write `rnn(width, 32, 4)`, `gru(…)`, `lstm(…)`, `encoder(width, [64], tanh, 32, 4)`, `tasks(10, 32, 4)` or `table(64, 8)`, or a value whose type implements `hypernn::embedding::ConditionedEmbeddingSpec`"
)]
pub trait DynamicEmbedding {
    /// No type.
    type Itself;

    /// Never called.
    fn never() -> Self::Itself;
}

/// Implemented by nothing, for its message.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the generator of a hypernetwork",
    label = "not a generator",
    note = "write `linear`, `mlp([32], tanh)`, `low_rank(8)` or `heads`, each also `.conditioned(width)`, or a value whose type implements `hypernn::generator::ConditionedGeneratorSpec`"
)]
pub trait DynamicGenerator {
    /// No type.
    type Itself;

    /// Never called.
    fn never() -> Self::Itself;
}

/// The target of a declared hypernetwork.
///
/// The inherent items apply where it is one; elsewhere those of [`NoTarget`] do, and naming it once
/// as a target reports the one error.
#[derive(Debug)]
pub struct TargetOf<T>(PhantomData<T>);

impl<T: FixedTarget> TargetOf<T> {
    /// The number of its parameters.
    pub const NUM_PARAMS: usize = T::NUM_PARAMS;
}

impl<T: HyperTarget> TargetOf<T> {
    /// Fails to compile where the number of parameters is not a constant.
    pub fn fixed()
    where
        T: FixedTarget,
    {
    }

    /// The plan for a configuration.
    ///
    /// # Errors
    /// An invalid size.
    pub fn target_plan(config: &T::Config) -> Result<TargetPlan<T>> {
        TargetPlan::new(config)
    }
}

impl<T: HyperTarget<Config = ()>> TargetOf<T> {
    /// The plan of a target that takes no configuration.
    ///
    /// # Errors
    /// Two tensors of one name.
    pub fn fixed_plan() -> Result<TargetPlan<T>> {
        TargetPlan::new(&())
    }
}

/// Stands in for the items of [`TargetOf`] where the type is no target, or not a fixed one.
pub trait NoTarget<T> {
    /// The number is unknown.
    const NUM_PARAMS: usize = 0;

    /// Nothing more to report.
    fn fixed() {}

    /// Never called in a program that compiles.
    ///
    /// # Errors
    /// Always.
    fn target_plan<C>(_config: &C) -> Result<TargetPlan<T>> {
        invalid()
    }

    /// Never called in a program that compiles.
    ///
    /// # Errors
    /// Always.
    fn fixed_plan() -> Result<TargetPlan<T>> {
        invalid()
    }
}

impl<T> NoTarget<T> for TargetOf<T> {}

/// The sizes of a declared hypernetwork.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Embeddings, their width and the chunks.
    pub shape: GeneratorShape,
    /// The number of the hypernetwork's own parameters.
    pub num_params: usize,
    /// What is wrong with the embedding, if anything.
    pub embedding: Option<Problem>,
    /// What is wrong with the generator, if anything.
    pub generator: Option<Problem>,
    /// What embedding and generator are conditioned on, where the hypernetwork is dynamic.
    pub conditions: Option<(Condition, Condition)>,
}

impl Sizes {
    /// What is wrong with the embedding or with the rows for it. A target of no parameters has
    /// an error of its own, or has one in `new`.
    pub const fn rows(&self) -> Option<Problem> {
        if self.embedding.is_some() || self.shape.plan.num_params() == 0 {
            return self.embedding;
        }
        self.shape.check()
    }

    /// What is wrong with the generator, or with its condition beside the embedding's.
    pub const fn generator(&self) -> Option<Problem> {
        match (self.generator, self.conditions) {
            (None, Some((embedding, generator))) => Condition::check(embedding, generator),
            (problem, _) => problem,
        }
    }

    /// Reports what is wrong.
    ///
    /// # Errors
    /// A part has an invalid size.
    pub fn ensure(&self) -> Result<()> {
        crate::check::ensure(self.rows())?;
        crate::check::ensure(self.generator())
    }

    /// The conditions of a dynamic hypernetwork.
    pub const fn conditions(&self) -> (Condition, Condition) {
        match self.conditions {
            Some(conditions) => conditions,
            None => (Condition::None, Condition::None),
        }
    }
}
