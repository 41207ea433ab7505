//! A linear head per target tensor, without chunks.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator};
use crate::check::{ensure, product, sum, too_many};
use crate::info::GeneratorInfo;
use crate::init::InitScheme;
use crate::mlp::{Appended, Dense, LayerInit};
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
    /// The rows that it generates, its sizes, and what is wrong with them, if anything.
    pub const fn info(&self, shape: GeneratorShape) -> GeneratorInfo {
        let GeneratorShape { num_embeddings, embedding_dim, plan } = shape;
        let outputs = plan.num_params();
        let inputs = product(&[num_embeddings, embedding_dim]);
        GeneratorInfo::new(ChunkPlan::whole(outputs))
            .params(product(&[sum(&[inputs, 1]), outputs]))
            .checked(too_many("heads", &[num_embeddings, embedding_dim, outputs]))
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
        self.build_appended(shape, 0, scheme, &vb)
    }
}

impl HeadsSpec {
    /// The generator of embeddings that end in `width` values of unknown size.
    pub(super) fn build_appended(
        &self,
        shape: GeneratorShape,
        width: usize,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        ensure(self.info(shape).problem)?;
        let groups = shape.num_embeddings;
        let start = LayerInit { appended: Appended { groups, width }, ..LayerInit::PLAIN };
        let (inputs, outputs) = (groups * shape.embedding_dim, shape.plan.num_params());
        Ok(Box::new(Heads(Dense::new(inputs, outputs, start, scheme, vb)?)))
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
