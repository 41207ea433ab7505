//! A multi-layer perceptron, shared by all chunks.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator};
use crate::check::{ensure, zero};
use crate::info::GeneratorInfo;
use crate::init::InitScheme;
use crate::mlp::{Activation, Appended, Dense, LayerInit, Mlp, num_params, too_many, zero_width};

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
    /// The rows that it generates, its sizes, and what is wrong with them, if anything.
    pub const fn info(&self, shape: GeneratorShape) -> GeneratorInfo {
        let GeneratorShape { embedding_dim, plan, .. } = shape;
        GeneratorInfo::new(plan)
            .params(num_params(embedding_dim, self.widths, plan.chunk()))
            .checked(zero_width("mlp", self.widths))
            .checked(too_many("mlp", embedding_dim, self.widths, plan.chunk()))
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
    /// The generator of embeddings that end in `width` values of unknown size.
    pub(super) fn build_appended(
        &self,
        shape: GeneratorShape,
        width: usize,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        ensure(self.info(shape).problem)?;
        let start = LayerInit { appended: Appended { groups: 1, width }, ..LayerInit::PLAIN };
        let (inputs, outputs) = (shape.embedding_dim, shape.plan.chunk());
        let mlp = Mlp::new(inputs, &self.widths, self.activation, outputs, start, scheme, vb)?;
        Ok(Box::new(Perceptron(mlp)))
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

    /// The rows that it generates, its sizes, and what is wrong with them, if anything.
    pub const fn info(&self, shape: GeneratorShape) -> GeneratorInfo {
        let GeneratorShape { embedding_dim, plan, .. } = shape;
        let widths = [self.rank];
        GeneratorInfo::new(plan)
            .params(num_params(embedding_dim, widths, plan.chunk()))
            .checked(zero("low_rank", "rank", self.rank))
            .checked(too_many("low_rank", embedding_dim, widths, plan.chunk()))
    }

    /// The generator of embeddings that end in `width` values of unknown size.
    pub(super) fn build_appended(
        &self,
        shape: GeneratorShape,
        width: usize,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        ensure(self.info(shape).problem)?;
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
