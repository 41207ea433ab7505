//! A multi-layer perceptron, shared by all chunks.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator};
use crate::check::{Problem, ensure, first, zero};
use crate::init::InitScheme;
use crate::mlp::{Activation, Appended, Dense, Mlp, Start, num_params, too_many};
use crate::plan::ChunkPlan;

/// `generator: mlp([hidden, …], activation)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct MlpSpec<const L: usize> {
    #[cfg_attr(feature = "serde", serde(with = "crate::mlp::widths"))]
    widths: [usize; L],
    activation: Activation,
}

/// `generator: mlp([hidden, …], activation)`: hidden layers of these widths, then a linear layer to
/// the chunk; shared by all chunks.
pub const fn mlp<const L: usize>(widths: [usize; L], activation: Activation) -> MlpSpec<L> {
    MlpSpec { widths, activation }
}

impl<const L: usize> MlpSpec<L> {
    /// One row per embedding.
    pub const fn plan(&self, num_params: usize, num_embeddings: usize) -> ChunkPlan {
        ChunkPlan::new(num_params, num_embeddings)
    }

    /// The number of its variables' values.
    pub const fn num_params(&self, shape: GeneratorShape) -> usize {
        num_params(shape.embedding_dim, self.widths, shape.plan.chunk())
    }

    /// What is wrong with the widths, if anything.
    pub const fn check(&self, shape: GeneratorShape) -> Option<Problem> {
        let mut i = 0;
        while i < L {
            if let Some(problem) = zero("mlp", "a hidden width", self.widths[i]) {
                return Some(problem);
            }
            i += 1;
        }
        too_many("mlp", shape.embedding_dim, self.widths, shape.plan.chunk())
    }
}

impl<const L: usize> std::fmt::Display for MlpSpec<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mlp({:?}, {})", self.widths, self.activation.name())
    }
}

#[diagnostic::do_not_recommend]
impl<const L: usize> GeneratorSpec for MlpSpec<L> {
    /// Variables `0.weight`, `0.bias`, `1.weight`, …, one pair per layer.
    fn build(
        &self,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        self.build_appended(shape, 0, scheme, &vb)
    }
}

impl<const L: usize> MlpSpec<L> {
    /// With so many values of unknown size at the end of each embedding.
    pub(super) fn build_appended(
        &self,
        shape: GeneratorShape,
        width: usize,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        ensure(self.check(shape))?;
        let start = Start { appended: Appended { groups: 1, width }, ..Start::PLAIN };
        let (inputs, outputs) = (shape.embedding_dim, shape.plan.chunk());
        let hidden = (&self.widths[..], self.activation);
        Ok(Box::new(Perceptron(Mlp::new(inputs, hidden, outputs, start, scheme, vb)?)))
    }
}

/// `generator: low_rank(rank)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct LowRankSpec {
    rank: usize,
}

/// `generator: low_rank(rank)`: a linear layer of that rank, `E → rank → chunk`. It has fewer
/// variables than `linear` where embeddings are wider than the rank. Its variables are those of
/// `mlp([rank], identity)`.
pub const fn low_rank(rank: usize) -> LowRankSpec {
    LowRankSpec { rank }
}

impl LowRankSpec {
    const fn layers(&self) -> MlpSpec<1> {
        mlp([self.rank], Activation::Identity)
    }

    /// One row per embedding.
    pub const fn plan(&self, num_params: usize, num_embeddings: usize) -> ChunkPlan {
        ChunkPlan::new(num_params, num_embeddings)
    }

    /// The number of its variables' values.
    pub const fn num_params(&self, shape: GeneratorShape) -> usize {
        self.layers().num_params(shape)
    }

    /// What is wrong with the rank, if anything.
    pub const fn check(&self, shape: GeneratorShape) -> Option<Problem> {
        let widths = [self.rank];
        first(&[
            zero("low_rank", "rank", self.rank),
            too_many("low_rank", shape.embedding_dim, widths, shape.plan.chunk()),
        ])
    }

    /// With so many values of unknown size at the end of each embedding.
    pub(super) fn build_appended(
        &self,
        shape: GeneratorShape,
        width: usize,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        ensure(self.check(shape))?;
        self.layers().build_appended(shape, width, scheme, vb)
    }
}

impl std::fmt::Display for LowRankSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "low_rank({})", self.rank)
    }
}

#[diagnostic::do_not_recommend]
impl GeneratorSpec for LowRankSpec {
    /// Variables `0.weight`, `0.bias`, `1.weight` and `1.bias`.
    fn build(
        &self,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        self.build_appended(shape, 0, scheme, &vb)
    }
}

#[derive(Clone, Debug)]
struct Perceptron(Mlp);

impl WeightGenerator for Perceptron {
    fn forward(&self, embedding: &Tensor) -> Result<GeneratorOutput> {
        let Dense { weight, bias } = self.0.last.clone();
        Ok(GeneratorOutput::linear(self.0.hidden(embedding)?, weight, bias))
    }
}
