//! Generators that take the condition.

use candle_core::{D, Result, Tensor};
use candle_nn::VarBuilder;

use super::heads::HeadsSpec;
use super::linear::LinearSpec;
use super::mlp::{LowRankSpec, MlpSpec};
use super::per_module::PerModuleSpec;
use super::{GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator};
use crate::check::{sum, zero};
use crate::condition::{Condition, Encoding, Sequences};
use crate::embedding::Embedded;
use crate::error::bail;
use crate::info::GeneratorInfo;
use crate::init::InitScheme;
use crate::structure::layout::{Layout, ParamInfo};

/// A weight generator of a dynamic hypernetwork.
pub trait ConditionedGenerator: std::fmt::Debug + Send + Sync {
    /// Embeddings and the condition, `[G, width]` or `[G]`, or sequences of one length `[G, T, width]`, to
    /// `[G × rows, chunk]`.
    ///
    /// # Errors
    /// candle's own.
    fn forward(&self, embedded: &Embedded, condition: &Tensor) -> Result<GeneratorOutput>;

    /// Embeddings and a condition of sequences or sets to `[G × rows, chunk]`.
    ///
    /// Unless it is written otherwise, what [`forward`](Self::forward) gives for the vectors `[G, T, width]`.
    ///
    /// # Errors
    /// Sequences of several lengths, unless the generator says what to do with them; or those of `forward`.
    fn forward_sequences(
        &self,
        embedded: &Embedded,
        sequences: &Sequences,
    ) -> Result<GeneratorOutput> {
        if !sequences.is_full() {
            bail!(
                condition,
                "the generator takes sequences of one length, but these have the lengths {:?}: `forward_sequences` would take them",
                sequences.lengths()
            );
        }
        self.forward(embedded, sequences.values())
    }

    /// Whether what it first generates for this tensor is zero, for whatever embeddings and condition; see
    /// [`WeightGenerator::starts_at_zero`].
    fn starts_at_zero(&self, _param: &ParamInfo) -> bool {
        false
    }
}

/// What is written after `generator:` where `mode: dynamic`; every [`GeneratorSpec`] is one too.
///
/// The type has the inherent function `info` of [`GeneratorSpec`], whose result also says what the generator is
/// conditioned on: `GeneratorInfo::new(plan).condition(Condition::Vector(width))`.
///
/// What `Display` writes is in checkpoints, and another declaration must write the same to load one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the generator of a hypernetwork",
    label = "not a generator",
    note = "write `linear`, `mlp([32], tanh)`, `low_rank(8)`, `heads` or `per_module(8, [32], gelu)`, each also `.conditioned(width)`, or a value whose type implements `hypernn::generator::GeneratorSpec`"
)]
pub trait ConditionedGeneratorSpec: std::fmt::Display {
    /// Builds the generator, with its variables below `vb`.
    ///
    /// # Errors
    /// A size is zero, or the builder's own.
    fn build(
        &self,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedGenerator>>;

    /// Builds the generator for the tensors of this layout; see [`GeneratorSpec::build_for`].
    ///
    /// # Errors
    /// Those of [`build`](Self::build).
    fn build_for(
        &self,
        _layout: &Layout,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedGenerator>> {
        self.build(shape, scheme, vb)
    }
}

#[diagnostic::do_not_recommend]
impl<S: GeneratorSpec> ConditionedGeneratorSpec for S {
    fn build(
        &self,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedGenerator>> {
        Ok(Box::new(UnconditionedGenerator(GeneratorSpec::build(self, shape, scheme, vb)?)))
    }

    fn build_for(
        &self,
        layout: &Layout,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedGenerator>> {
        let inner = GeneratorSpec::build_for(self, layout, shape, scheme, vb)?;
        Ok(Box::new(UnconditionedGenerator(inner)))
    }
}

/// A generator that sees the condition through the embedding alone.
#[derive(Debug)]
struct UnconditionedGenerator(Box<dyn WeightGenerator>);

impl UnconditionedGenerator {
    fn of_sets(&self, embedded: &Embedded, sets: usize) -> Result<GeneratorOutput> {
        match embedded {
            Embedded::Scaled { table, gains } => self.0.forward_scaled(table, gains),
            embedded => self.0.forward_sets(&embedded.per_set(sets)?),
        }
    }
}

impl ConditionedGenerator for UnconditionedGenerator {
    fn forward(&self, embedded: &Embedded, condition: &Tensor) -> Result<GeneratorOutput> {
        self.of_sets(embedded, condition.dim(0)?)
    }

    fn forward_sequences(
        &self,
        embedded: &Embedded,
        sequences: &Sequences,
    ) -> Result<GeneratorOutput> {
        self.of_sets(embedded, sequences.count())
    }

    fn starts_at_zero(&self, param: &ParamInfo) -> bool {
        self.0.starts_at_zero(param)
    }
}

/// `generator: linear.conditioned(width)`: the condition is appended to every embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Conditioned<S> {
    spec: S,
    width: usize,
    #[cfg_attr(feature = "serde", serde(default))]
    encoding: Encoding,
}

impl<S: Copy> Conditioned<S> {
    /// How the condition enters.
    #[must_use]
    pub const fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// What the generator inside takes: wider embeddings.
    const fn widened(&self, mut shape: GeneratorShape) -> GeneratorShape {
        shape.embedding_dim = sum(&[shape.embedding_dim, self.encoding.width(self.width)]);
        shape
    }

    /// How many values of unknown size come behind every embedding: an encoded condition has a mean
    /// square of one.
    const fn of_unknown_size(&self) -> usize {
        match self.encoding {
            Encoding::Raw => self.width,
            Encoding::CosSin => 0,
        }
    }
}

macro_rules! conditioned {
    ($(($($generics:tt)*) $spec:ty),*) => {$(
        impl $($generics)* $spec {
            /// Appends a condition of this width to every embedding.
            ///
            /// Under the exact init, weights on a condition that enters as it is start near zero, so
            /// that the target starts at candle's scale whatever the condition's, up to a root mean square
            /// of 10³, and how it depends on the condition is learned. Those on an encoded one start
            /// like all others.
            pub const fn conditioned(self, width: usize) -> Conditioned<Self> {
                Conditioned { spec: self, width, encoding: Encoding::Raw }
            }
        }

        impl $($generics)* Conditioned<$spec> {
            /// The rows that it generates, its sizes, and what is wrong with them, if anything.
            /// The condition is a vector.
            pub const fn info(&self, shape: GeneratorShape) -> GeneratorInfo {
                let inner = self.spec.info(self.widened(shape));
                GeneratorInfo { problem: None, ..inner }
                    .condition(Condition::Vector(self.width))
                    .checked(zero("conditioned", "width", self.width))
                    .checked(inner.problem)
            }
        }
    )*};
}

/// The generators that treat all values alike.
macro_rules! built {
    ($(($($generics:tt)*) $spec:ty),*) => {$(
        #[diagnostic::do_not_recommend]
        impl $($generics)* ConditionedGeneratorSpec for Conditioned<$spec> {
            fn build(
                &self,
                shape: GeneratorShape,
                scheme: InitScheme,
                vb: VarBuilder<'_>,
            ) -> Result<Box<dyn ConditionedGenerator>> {
                let (shape, width) = (self.widened(shape), self.of_unknown_size());
                let inner = self.spec.build_appended(shape, width, scheme, &vb)?;
                Ok(Box::new(AppendedCondition { inner, encoding: self.encoding }))
            }
        }
    )*};
}

conditioned!(
    () LinearSpec,
    () HeadsSpec,
    () LowRankSpec,
    (<const L: usize>) MlpSpec<L>,
    (<const L: usize>) PerModuleSpec<L>
);
built!(() LinearSpec, () HeadsSpec, () LowRankSpec, (<const L: usize>) MlpSpec<L>);

#[diagnostic::do_not_recommend]
impl<const L: usize> ConditionedGeneratorSpec for Conditioned<PerModuleSpec<L>> {
    fn build(
        &self,
        _: GeneratorShape,
        _: InitScheme,
        _: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedGenerator>> {
        bail!(declaration, "`{self}` is built for the tensors of a layout: call `build_for`")
    }

    fn build_for(
        &self,
        layout: &Layout,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedGenerator>> {
        let (shape, width) = (self.widened(shape), self.of_unknown_size());
        let inner = self.spec.build_appended(layout, shape, width, scheme, &vb)?;
        Ok(Box::new(AppendedCondition { inner, encoding: self.encoding }))
    }
}

impl<S: std::fmt::Display> std::fmt::Display for Conditioned<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.conditioned({})", self.spec, self.width)?;
        f.write_str(self.encoding.suffix())
    }
}

#[derive(Debug)]
struct AppendedCondition {
    inner: Box<dyn WeightGenerator>,
    encoding: Encoding,
}

impl ConditionedGenerator for AppendedCondition {
    fn forward(&self, embedded: &Embedded, condition: &Tensor) -> Result<GeneratorOutput> {
        let embeddings = embedded.per_set(condition.dim(0)?)?;
        let (sets, rows, _) = embeddings.dims3()?;
        let condition = self.encoding.encode(condition)?.unsqueeze(1)?;
        let condition = condition.broadcast_as((sets, rows, condition.dim(2)?))?;
        self.inner.forward_sets(&Tensor::cat(&[embeddings, condition], D::Minus1)?)
    }
    fn starts_at_zero(&self, param: &ParamInfo) -> bool {
        self.inner.starts_at_zero(param)
    }
}
