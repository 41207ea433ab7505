//! A linear head per target tensor, without chunks.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator};
use crate::check::Problem;
use crate::init::InitScheme;
use crate::mlp::Dense;
use crate::plan::ChunkPlan;

/// `generator: heads`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HeadsSpec;

/// `generator: heads`: each target tensor has a linear head of its own, which reads all embeddings.
///
/// The heads lie one below the other in one matrix `[P, N × E]`, in the order of the layout, so
/// that all are one product. This has `N × E + 1` variables per generated value: more than the
/// target; use it for few embeddings of small width.
#[allow(non_upper_case_globals)]
pub const heads: HeadsSpec = HeadsSpec;

impl HeadsSpec {
    /// One row of all parameters.
    pub const fn plan(&self, num_params: usize, _num_embeddings: usize) -> ChunkPlan {
        ChunkPlan::whole(num_params)
    }

    /// The number of its variables' values.
    pub const fn num_params(&self, shape: GeneratorShape) -> usize {
        (shape.num_embeddings * shape.embedding_dim + 1) * shape.plan.num_params()
    }

    /// Nothing: it has no sizes of its own.
    pub const fn check(&self, _shape: GeneratorShape) -> Option<Problem> {
        None
    }
}

impl std::fmt::Display for HeadsSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("heads")
    }
}

#[diagnostic::do_not_recommend]
impl GeneratorSpec for HeadsSpec {
    /// Variables `weight` `[P, N × E]` and `bias` `[P]`.
    fn build(
        &self,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        let inputs = shape.num_embeddings * shape.embedding_dim;
        Ok(Box::new(Heads(Dense::new(inputs, shape.plan.num_params(), 1., scheme, &vb)?)))
    }
}

#[derive(Clone, Debug)]
struct Heads(Dense);

impl WeightGenerator for Heads {
    fn forward(&self, embedding: &Tensor) -> Result<GeneratorOutput> {
        self.forward_sets(&embedding.unsqueeze(0)?)
    }

    fn forward_sets(&self, embeddings: &Tensor) -> Result<GeneratorOutput> {
        let Dense { weight, bias } = self.0.clone();
        Ok(GeneratorOutput::linear(embeddings.flatten_from(1)?, weight, bias))
    }
}
