//! One linear layer, shared by all chunks.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator};
use crate::check::Problem;
use crate::init::InitScheme;
use crate::mlp::Dense;
use crate::plan::ChunkPlan;

/// `generator: linear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
    pub const fn check(&self, _shape: GeneratorShape) -> Option<Problem> {
        None
    }
}

impl std::fmt::Display for LinearSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("linear")
    }
}

#[diagnostic::do_not_recommend]
impl GeneratorSpec for LinearSpec {
    /// Variables `weight` `[C, E]` and `bias` `[C]`.
    fn build(
        &self,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        let layer = Dense::new(shape.embedding_dim, shape.plan.chunk(), 1., scheme, &vb)?;
        Ok(Box::new(Linear(layer)))
    }
}

#[derive(Clone, Debug)]
struct Linear(Dense);

impl WeightGenerator for Linear {
    fn forward(&self, embedding: &Tensor) -> Result<GeneratorOutput> {
        let Dense { weight, bias } = self.0.clone();
        Ok(GeneratorOutput::linear(embedding.clone(), weight, bias))
    }

    /// The table goes through the layer once, whatever the number of sets.
    fn forward_scaled(&self, table: &Tensor, gains: &Tensor) -> Result<GeneratorOutput> {
        if gains.dim(0)? == 1 {
            return self.forward(&table.broadcast_mul(&gains.t()?)?);
        }
        let Dense { weight, bias } = self.0.clone();
        let rows = crate::ops::linear::linear(table, &weight, None)?;
        Ok(GeneratorOutput::scaled(rows, gains.clone(), bias))
    }
}
