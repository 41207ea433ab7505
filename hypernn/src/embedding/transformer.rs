//! An encoder of a sequence, whose outputs learned queries attend to.

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
use crate::nn::{Linear, RmsNorm};

/// `embedding: transformer(width, num_embeddings, embedding_dim, depth, heads)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct TransformerSpec {
    width: usize,
    num_embeddings: usize,
    embedding_dim: usize,
    depth: usize,
    heads: usize,
    #[cfg_attr(feature = "serde", serde(default = "in_order"))]
    positions: Positions,
}

#[cfg(feature = "serde")]
const fn in_order() -> Positions {
    Positions::Rotary
}

/// `embedding: transformer(width, num_embeddings, embedding_dim, depth, heads)`: an encoder over a sequence
/// `[G, T, width]`, and learned queries, one for each embedding, that attend to what it gives (Vaswani et al. 2017; the
/// queries after Lee et al. 2019, *Set Transformer*).
///
/// The vectors are normalised and mapped to the width of an embedding. Each of `depth` blocks has attention among them,
/// in both directions, and a perceptron of width `4 × embedding_dim`; then the queries attend to them once, with a
/// perceptron behind. Each part has an RMS norm in front and is added to what comes before; linear layers have no biases.
/// Embeddings are normalised at the end, so that each starts with a mean square of one, whatever the condition's
/// scale. The cost grows with the square of `T`.
///
/// Positions are rotary. Where the order should not matter, write `.positions(unordered)`: the condition is then a set.
pub const fn transformer(
    width: usize,
    num_embeddings: usize,
    embedding_dim: usize,
    depth: usize,
    heads: usize,
) -> TransformerSpec {
    let positions = Positions::Rotary;
    TransformerSpec { width, num_embeddings, embedding_dim, depth, heads, positions }
}

impl TransformerSpec {
    /// Whether the order of the vectors matters: it does unless `unordered` is written.
    #[must_use]
    pub const fn positions(mut self, positions: Positions) -> Self {
        self.positions = positions;
        self
    }

    const fn sizes(&self) -> Sizes {
        Sizes {
            name: "transformer",
            width: self.width,
            num_embeddings: self.num_embeddings,
            embedding_dim: self.embedding_dim,
            depth: self.depth,
            heads: self.heads,
            positions: self.positions,
        }
    }

    /// The embedding's sizes, and what is wrong with them, if anything; the condition is a sequence, or a set where
    /// positions do not matter.
    pub const fn info(&self) -> EmbeddingInfo {
        let (rows, dim, sizes) = (self.num_embeddings, self.embedding_dim, self.sizes());
        let block = sum(&[sizes.attention(dim), sizes.perceptron()]);
        // The queries have a block of their own.
        let blocks = product(&[sum(&[self.depth, 1]), block]);
        let inputs = sum(&[self.width, product(&[dim, self.width])]);
        let num_params = sum(&[inputs, product(&[rows, dim]), blocks, dim, dim]);
        EmbeddingInfo::new(rows, dim)
            .params(num_params)
            .condition(self.positions.condition(self.width))
            .checked(sizes.check(num_params))
    }
}

impl std::fmt::Display for TransformerSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { width, num_embeddings, embedding_dim, depth, heads, positions } = self;
        write!(f, "transformer({width}, {num_embeddings}, {embedding_dim}, {depth}, {heads})")?;
        match positions {
            Positions::Rotary => Ok(()),
            positions => write!(f, ".positions({})", positions.name()),
        }
    }
}

#[diagnostic::do_not_recommend]
impl ConditionedEmbeddingSpec for TransformerSpec {
    /// Variables `norm.weight` and `in.weight`; for each block those of its parts below `0.among` and `0.mlp`, and so
    /// on; `encoded.weight`, `queries.weight`, those of the queries' block below `read.cross` and `read.mlp`;
    /// `out.weight`.
    fn build(
        &self,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedEmbedding>> {
        ensure(self.info().problem)?;
        let (width, dim) = (self.width, self.embedding_dim);
        let encoder = Builder::new(self.sizes(), scheme, 2 * self.depth, vb.clone());
        let vb = Builder::new(self.sizes(), scheme, 2, vb);
        let block = |at: usize| Block::new("among", &encoder.pp(at));
        Ok(Box::new(Transformer {
            norm: vb.norm("norm", width)?,
            input: vb.linear("in", width, dim)?,
            blocks: (0..self.depth).map(block).collect::<Result<_>>()?,
            encoded: vb.norm("encoded", dim)?,
            queries: vb.queries("queries")?,
            read: Block::new("cross", &vb.pp("read"))?,
            out: vb.norm("out", dim)?,
            spec: *self,
        }))
    }
}

#[derive(Clone, Debug)]
struct Transformer {
    norm: RmsNorm,
    input: Linear,
    blocks: Vec<Block>,
    encoded: RmsNorm,
    queries: Tensor,
    read: Block,
    out: RmsNorm,
    spec: TransformerSpec,
}

/// Attention and a perceptron.
#[derive(Clone, Debug)]
struct Block {
    attention: AttentionBlock,
    mlp: PerceptronBlock,
}

impl Block {
    fn new(name: &str, vb: &Builder<'_>) -> Result<Self> {
        let attention = AttentionBlock::new(vb.embedding_dim(), &vb.pp(name))?;
        Ok(Self { attention, mlp: PerceptronBlock::new(&vb.pp("mlp"))? })
    }

    fn forward(&self, stream: &Tensor, attended: &Attended<'_>) -> Result<Tensor> {
        self.mlp.forward(&self.attention.forward(stream, attended)?)
    }
}

impl ConditionedEmbedding for Transformer {
    fn forward(&self, condition: &Tensor, state: &State) -> Result<(Embedded, State)> {
        self.forward_sequences(&Sequences::new(condition)?, state)
    }

    fn forward_sequences(&self, sequences: &Sequences, state: &State) -> Result<(Embedded, State)> {
        let mask = key_mask(sequences)?;
        let stream = self.input.forward(&self.norm.forward(sequences.values())?)?;
        let head_dim = self.spec.sizes().head_dim();
        let angles = self.spec.positions.angles(stream.dim(1)?, head_dim, &stream)?;
        let among = Attended { vectors: None, mask: &mask, angles: &angles };
        let stream =
            self.blocks.iter().try_fold(stream, |stream, block| block.forward(&stream, &among))?;
        let encoded = self.encoded.forward(&stream)?;
        let cross = Attended { vectors: Some(&encoded), mask: &mask, angles: &Angles::NONE };
        let read = self.read.forward(&for_each_set(&self.queries, sequences.count())?, &cross)?;
        Ok((Embedded::PerSet(self.out.forward(&read)?), state.clone()))
    }
}
