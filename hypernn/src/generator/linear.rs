//! One linear layer, shared by all chunks.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator};
use crate::check::{ensure, product, sum, too_many};
use crate::info::GeneratorInfo;
use crate::init::InitScheme;
use crate::mlp::{Appended, Dense, LayerInit};

/// `generator: linear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LinearSpec;

/// `generator: linear`: one linear layer from an embedding to a chunk, shared by all chunks, as in
/// hyper-nn.
#[allow(non_upper_case_globals)]
pub const linear: LinearSpec = LinearSpec;

impl LinearSpec {
    /// The rows that it generates, its sizes, and what is wrong with them, if anything.
    pub const fn info(&self, shape: GeneratorShape) -> GeneratorInfo {
        let GeneratorShape { embedding_dim, plan, .. } = shape;
        GeneratorInfo::new(plan)
            .params(product(&[sum(&[embedding_dim, 1]), plan.chunk()]))
            .checked(too_many("linear", &[embedding_dim, plan.chunk()]))
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
        self.build_appended(shape, 0, scheme, &vb)
    }
}

impl LinearSpec {
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
        Ok(Box::new(Linear(Dense::new(inputs, outputs, start, scheme, vb)?)))
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
        let rows = crate::ops::linear::linear(table, &weight.into(), None)?;
        Ok(GeneratorOutput::scaled(rows, gains.clone(), bias))
    }
}
