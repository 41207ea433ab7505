//! A multi-layer perceptron, shared by all chunks.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator};
use crate::check::{Problem, ensure, zero};
use crate::init::InitScheme;
use crate::mlp::{Activation, Dense, Mlp, num_params};
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

/// `generator: low_rank(rank)`: a linear layer of that rank, `E → rank → chunk`. It has fewer
/// variables than `linear` where embeddings are wider than the rank.
pub const fn low_rank(rank: usize) -> MlpSpec<1> {
    mlp([rank], Activation::Identity)
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
    pub const fn check(&self, _shape: GeneratorShape) -> Option<Problem> {
        let mut i = 0;
        while i < L {
            if let Some(problem) = zero("mlp", "a hidden width", self.widths[i]) {
                return Some(problem);
            }
            i += 1;
        }
        None
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
        ensure(self.check(shape))?;
        let (inputs, outputs) = (shape.embedding_dim, shape.plan.chunk());
        let mlp = Mlp::new(inputs, &self.widths, self.activation, outputs, scheme, &vb)?;
        Ok(Box::new(Perceptron(mlp)))
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
