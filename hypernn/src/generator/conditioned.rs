//! Generators that take the condition.

use candle_core::{D, Result, Tensor};
use candle_nn::VarBuilder;

use super::heads::HeadsSpec;
use super::linear::LinearSpec;
use super::mlp::{LowRankSpec, MlpSpec};
use super::{GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator};
use crate::check::{sum, zero};
use crate::condition::{Condition, Encoding};
use crate::embedding::Embedded;
use crate::info::GeneratorInfo;
use crate::init::InitScheme;

/// A weight generator of a dynamic hypernetwork.
pub trait ConditionedGenerator: std::fmt::Debug + Send + Sync {
    /// Embeddings and the condition, `[G, width]` or `[G]`, to `[G × rows, chunk]`.
    ///
    /// # Errors
    /// candle's own.
    fn forward(&self, embedded: &Embedded, condition: &Tensor) -> Result<GeneratorOutput>;
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
    note = "write `linear`, `mlp([32], tanh)`, `low_rank(8)` or `heads`, each also `.conditioned(width)`, or a value whose type implements `hypernn::generator::GeneratorSpec`"
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
}

/// A generator that sees the condition through the embedding alone.
#[derive(Debug)]
struct UnconditionedGenerator(Box<dyn WeightGenerator>);

impl ConditionedGenerator for UnconditionedGenerator {
    fn forward(&self, embedded: &Embedded, condition: &Tensor) -> Result<GeneratorOutput> {
        match embedded {
            Embedded::Scaled { table, gains } => self.0.forward_scaled(table, gains),
            embedded => self.0.forward_sets(&embedded.per_set(condition.dim(0)?)?),
        }
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
                GeneratorInfo::new(inner.plan)
                    .params(inner.num_params)
                    .condition(Condition::Vector(self.width))
                    .checked(zero("conditioned", "width", self.width))
                    .checked(inner.problem)
            }
        }

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

conditioned!(() LinearSpec, () HeadsSpec, () LowRankSpec, (<const L: usize>) MlpSpec<L>);

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
}
