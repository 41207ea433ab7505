//! The parts of a declared hypernetwork.

use candle_core::Result;
use candle_nn::VarBuilder;

use crate::embedding::spec::table;
use crate::embedding::{ConditionedEmbeddingSpec, EmbeddingSpec, TableSpec};
use crate::generator::{ConditionedGeneratorSpec, GeneratorShape, GeneratorSpec, LinearSpec};
use crate::info::{HasEmbeddingInfo, HasGeneratorInfo};
use crate::init::InitScheme;

/// What follows `embedding:` or `generator:`, from where it is used.
///
/// Asking for the part reports the one error. After that, the inherent methods apply where it can be that;
/// elsewhere those of [`NoPart`] do.
#[derive(Debug)]
pub struct Part<'a, S>(pub &'a S);

/// How an embedding is built.
type Embeds<S, E> = fn(&S, InitScheme, VarBuilder<'_>) -> Result<Box<E>>;

/// How a generator is built.
type Generates<S, G> = fn(&S, GeneratorShape, InitScheme, VarBuilder<'_>) -> Result<Box<G>>;

/// Each is called with the `build` of the trait that it asks for, by a path that names the trait alone,
/// so that this trait alone is in rustc's message.
impl<S> Part<'_, S> {
    /// Asks for an embedding: `EmbeddingSpec::build`, or `ConditionedEmbeddingSpec::build`.
    pub const fn ask_embedding<E: ?Sized>(self, _: Embeds<S, E>) -> Self {
        self
    }

    /// Asks for a generator: `GeneratorSpec::build`, or `ConditionedGeneratorSpec::build`.
    pub const fn ask_generator<G: ?Sized>(self, _: Generates<S, G>) -> Self {
        self
    }
}

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

const EMBEDDING: TableSpec = table(1, 1);

/// Stands in for the methods of [`Part`], with parts that nothing is wrong with.
pub trait NoPart: Sized {
    /// An embedding.
    fn embedding(self) -> &'static TableSpec {
        &EMBEDDING
    }

    /// An embedding of a dynamic hypernetwork.
    fn conditioned_embedding(self) -> &'static TableSpec {
        &EMBEDDING
    }

    /// A generator.
    fn generator(self) -> &'static LinearSpec {
        &LinearSpec
    }

    /// A generator of a dynamic hypernetwork.
    fn conditioned_generator(self) -> &'static LinearSpec {
        &LinearSpec
    }
}

impl<S> NoPart for Part<'_, S> {}

/// Stands in for the function `info` of an embedding's spec that has none.
pub trait NoEmbeddingInfo {
    /// Reports the one error.
    fn info(&self) -> Self::Info
    where
        Self: HasEmbeddingInfo,
    {
        Self::never()
    }
}

impl<S> NoEmbeddingInfo for S {}

/// Stands in for the function `info` of a generator's spec that has none.
pub trait NoGeneratorInfo {
    /// Reports the one error.
    fn info(&self, _shape: GeneratorShape) -> Self::Info
    where
        Self: HasGeneratorInfo,
    {
        Self::never()
    }
}

impl<S> NoGeneratorInfo for S {}
