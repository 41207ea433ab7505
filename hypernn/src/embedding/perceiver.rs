//! Learned queries that attend to a sequence or a set.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::attention::{
    Angles, Attended, AttentionBlock, Builder, PerceptronBlock, Positions, Sizes, for_each_set,
    key_mask,
};
use super::{ConditionedEmbedding, ConditionedEmbeddingSpec, Embedded, State};
use crate::check::{ensure, product, sum};
use crate::condition::Sequences;
use crate::info::EmbeddingInfo;
use crate::init::InitScheme;
use crate::nn::{AttentionMask, RmsNorm};

/// `embedding: perceiver(width, num_embeddings, embedding_dim, depth, heads)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct PerceiverSpec {
    width: usize,
    num_embeddings: usize,
    embedding_dim: usize,
    depth: usize,
    heads: usize,
    #[cfg_attr(feature = "serde", serde(default))]
    positions: Positions,
}

/// `embedding: perceiver(width, num_embeddings, embedding_dim, depth, heads)`: learned queries, one for each embedding,
/// that attend to all vectors of a set, `[G, T, width]` (Jaegle et al. 2021, *Perceiver: General Perception with
/// Iterative Attention*).
///
/// Each of `depth` blocks has attention from the embeddings to the vectors, attention among the embeddings, and a
/// perceptron of width `4 × embedding_dim`, each with an RMS norm in front and added to the embeddings. Linear layers
/// have no biases. The vectors are normalised once, and the embeddings at the end, so that each starts with a mean square
/// of one, whatever the condition's scale. The cost grows with `T`, not with its square: it is the embedding for long
/// documents.
///
/// The order of the vectors does not matter, as suits hidden states, which know their places. Where it should, write
/// `.positions(rotary)`.
pub const fn perceiver(
    width: usize,
    num_embeddings: usize,
    embedding_dim: usize,
    depth: usize,
    heads: usize,
) -> PerceiverSpec {
    let positions = Positions::Unordered;
    PerceiverSpec { width, num_embeddings, embedding_dim, depth, heads, positions }
}

impl PerceiverSpec {
    /// Whether the order of the vectors matters: it does not unless `rotary` is written.
    #[must_use]
    pub const fn positions(mut self, positions: Positions) -> Self {
        self.positions = positions;
        self
    }

    const fn sizes(&self) -> Sizes {
        Sizes {
            name: "perceiver",
            width: self.width,
            num_embeddings: self.num_embeddings,
            embedding_dim: self.embedding_dim,
            depth: self.depth,
            heads: self.heads,
            positions: self.positions,
        }
    }

    /// The embedding's sizes, and what is wrong with them, if anything; the condition is a set, or a sequence where
    /// positions matter.
    pub const fn info(&self) -> EmbeddingInfo {
        let (rows, dim, sizes) = (self.num_embeddings, self.embedding_dim, self.sizes());
        let block = [sizes.attention(self.width), sizes.attention(dim), sizes.perceptron()];
        let blocks = product(&[self.depth, sum(&block)]);
        let num_params = sum(&[self.width, product(&[rows, dim]), blocks, dim]);
        EmbeddingInfo::new(rows, dim)
            .params(num_params)
            .condition(self.positions.condition(self.width))
            .checked(sizes.check(num_params))
    }
}

impl std::fmt::Display for PerceiverSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { width, num_embeddings, embedding_dim, depth, heads, positions } = self;
        write!(f, "perceiver({width}, {num_embeddings}, {embedding_dim}, {depth}, {heads})")?;
        match positions {
            Positions::Unordered => Ok(()),
            positions => write!(f, ".positions({})", positions.name()),
        }
    }
}

#[diagnostic::do_not_recommend]
impl ConditionedEmbeddingSpec for PerceiverSpec {
    /// Variables `norm.weight` and `queries.weight`; for each block those of its parts below `0.cross`, `0.among` and
    /// `0.mlp`, and so on; `out.weight`.
    fn build(
        &self,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedEmbedding>> {
        ensure(self.info().problem)?;
        let (width, dim) = (self.width, self.embedding_dim);
        let vb = Builder::new(self.sizes(), scheme, 3 * self.depth, vb);
        let block = |at: usize| {
            let vb = vb.pp(at);
            Ok(PerceiverBlock {
                cross: AttentionBlock::new(width, &vb.pp("cross"))?,
                among: AttentionBlock::new(dim, &vb.pp("among"))?,
                mlp: PerceptronBlock::new(&vb.pp("mlp"))?,
            })
        };
        Ok(Box::new(Perceiver {
            norm: vb.norm("norm", width)?,
            queries: vb.queries("queries")?,
            blocks: (0..self.depth).map(block).collect::<Result<_>>()?,
            out: vb.norm("out", dim)?,
            spec: *self,
        }))
    }
}

#[derive(Clone, Debug)]
struct Perceiver {
    norm: RmsNorm,
    queries: Tensor,
    blocks: Vec<PerceiverBlock>,
    out: RmsNorm,
    spec: PerceiverSpec,
}

#[derive(Clone, Debug)]
struct PerceiverBlock {
    cross: AttentionBlock,
    among: AttentionBlock,
    mlp: PerceptronBlock,
}

impl PerceiverBlock {
    fn forward(&self, stream: &Tensor, vectors: &Attended<'_>) -> Result<Tensor> {
        let among = Attended { vectors: None, mask: &AttentionMask::none(), angles: &Angles::NONE };
        let stream = self.among.forward(&self.cross.forward(stream, vectors)?, &among)?;
        self.mlp.forward(&stream)
    }
}

impl ConditionedEmbedding for Perceiver {
    fn forward(&self, condition: &Tensor, state: &State) -> Result<(Embedded, State)> {
        self.forward_sequences(&Sequences::new(condition)?, state)
    }

    fn forward_sequences(&self, sequences: &Sequences, state: &State) -> Result<(Embedded, State)> {
        let vectors = self.norm.forward(sequences.values())?;
        let head_dim = self.spec.sizes().head_dim();
        let angles = self.spec.positions.angles(vectors.dim(1)?, head_dim, &vectors)?;
        let mask = key_mask(sequences)?;
        let attended = Attended { vectors: Some(&vectors), mask: &mask, angles: &angles };
        let stream = for_each_set(&self.queries, sequences.count())?;
        let stream = self
            .blocks
            .iter()
            .try_fold(stream, |stream, block| block.forward(&stream, &attended))?;
        Ok((Embedded::PerSet(self.out.forward(&stream)?), state.clone()))
    }
}
