//! The parts of a declared hypernetwork.

use crate::embedding::{ConditionedEmbeddingSpec, EmbeddingSpec};
use crate::generator::{ConditionedGeneratorSpec, GeneratorSpec};

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
