//! One linear layer, shared by all chunks.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator};
use crate::check::Problem;
use crate::init::InitScheme;
use crate::plan::ChunkPlan;

/// `generator: linear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearSpec;

/// `generator: linear`: one linear layer from an embedding to a chunk, shared by all chunks, as in
/// hyper-nn.
#[allow(non_upper_case_globals)]
pub const linear: LinearSpec = LinearSpec;

impl LinearSpec {
    /// One row per embedding.
    pub const fn plan(&self, num_params: usize, num_embeddings: usize) -> ChunkPlan {
        ChunkPlan::new(num_params, num_embeddings)
    }

    /// The number of its variables' values.
    pub const fn num_params(&self, shape: GeneratorShape) -> usize {
        (shape.embedding_dim + 1) * shape.plan.chunk()
    }

    /// Nothing: it has no sizes of its own.
    pub const fn check(&self) -> Option<Problem> {
        None
    }
}

impl std::fmt::Display for LinearSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("linear")
    }
}

impl GeneratorSpec for LinearSpec {
    /// Variables `weight` `[C, E]` and `bias` `[C]`.
    fn build(
        &self,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        Ok(Box::new(Linear::new(shape.embedding_dim, shape.plan.chunk(), 1., scheme, &vb)?))
    }
}

/// `y = x wᵀ + b`, the part that all generators share.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// A layer whose output starts with unit variance where its input's mean square is
    /// `second_moment`.
    pub(super) fn new(
        in_dim: usize,
        out_dim: usize,
        second_moment: f64,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let weight =
            vb.get_with_hints((out_dim, in_dim), "weight", scheme.weight(in_dim, second_moment))?;
        let bias = vb.get_with_hints(out_dim, "bias", scheme.bias(in_dim))?;
        Ok(Self { weight, bias })
    }
}

impl WeightGenerator for Linear {
    fn forward(&self, xs: &Tensor) -> Result<GeneratorOutput> {
        Ok(GeneratorOutput::linear(xs.clone(), self.weight.clone(), self.bias.clone()))
    }
}
