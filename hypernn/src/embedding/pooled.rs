//! The mean of what a perceptron makes of each vector of a set.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::recurrent::unit_rms;
use super::{ConditionedEmbedding, ConditionedEmbeddingSpec, Embedded, State};
use crate::check::{Problem, ensure, product, sum, too_many_together, zero};
use crate::condition::{Condition, Encoding, Sequences};
use crate::info::EmbeddingInfo;
use crate::init::{BIAS_SHARE, InitScheme};
use crate::mlp::{self, Activation, LayerInit, Mlp, num_params};

/// `embedding: pooled(width, [hidden, …], activation, num_embeddings, embedding_dim)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct PooledSpec<const L: usize> {
    width: usize,
    #[cfg_attr(feature = "serde", serde(with = "crate::mlp::widths"))]
    widths: [usize; L],
    activation: Activation,
    num_embeddings: usize,
    embedding_dim: usize,
    #[cfg_attr(feature = "serde", serde(default))]
    encoding: Encoding,
}

/// `embedding: pooled(width, [hidden, …], activation, num_embeddings, embedding_dim)`: a perceptron over each vector of
/// a set `[G, T, width]`, their mean, and a perceptron from the mean to all embeddings at once (Zaheer et al. 2017, *Deep
/// Sets*).
///
/// The first has the hidden widths, the last of which is that of the mean; the second has one hidden layer of that
/// width. A mean does not grow with the number of vectors, so that sets of other sizes than those of training are in
/// range.
///
/// Under the exact init the mean and the embeddings of a set are divided by their root mean square, and biases start as
/// normal numbers, with a quarter of each layer's variance, so that there is something to divide for any set.
pub const fn pooled<const L: usize>(
    width: usize,
    widths: [usize; L],
    activation: Activation,
    num_embeddings: usize,
    embedding_dim: usize,
) -> PooledSpec<L> {
    let encoding = Encoding::Raw;
    PooledSpec { width, widths, activation, num_embeddings, embedding_dim, encoding }
}

impl<const L: usize> PooledSpec<L> {
    /// How the vectors enter.
    #[must_use]
    pub const fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// The width of the mean.
    const fn mean_width(&self) -> usize {
        if L == 0 { 0 } else { self.widths[L - 1] }
    }

    /// The embedding's sizes, and what is wrong with them, if anything; the condition is a set.
    pub const fn info(&self) -> EmbeddingInfo {
        let (rows, width) = (self.num_embeddings, self.embedding_dim);
        let (inputs, outputs) = (self.encoding.width(self.width), product(&[rows, width]));
        let mean = self.mean_width();
        let of_vectors = num_params(inputs, self.widths, mean);
        let all = sum(&[of_vectors, num_params(mean, [mean], outputs)]);
        EmbeddingInfo::new(rows, width)
            .params(all)
            .condition(Condition::Set(self.width))
            .checked(self.no_hidden())
            .checked(mlp::zero_width("pooled", self.widths))
            .checked(zero("pooled", "width", self.width))
            .checked(zero("pooled", "num_embeddings", rows))
            .checked(zero("pooled", "embedding_dim", width))
            .checked(mlp::too_many("pooled", inputs, self.widths, mean))
            .checked(mlp::too_many("pooled", mean, [mean], outputs))
            .checked(too_many_together("pooled", all))
    }

    /// The mean of vectors as they are would say little of the set.
    const fn no_hidden(&self) -> Option<Problem> {
        if L > 0 {
            return None;
        }
        Some(Problem::new("pooled: no hidden widths, expected at least 1"))
    }
}

impl<const L: usize> std::fmt::Display for PooledSpec<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { width, widths, num_embeddings, embedding_dim, .. } = self;
        let activation = self.activation.name();
        write!(f, "pooled({width}, {widths:?}, {activation}, {num_embeddings}, {embedding_dim})")?;
        f.write_str(self.encoding.suffix())
    }
}

#[diagnostic::do_not_recommend]
impl<const L: usize> ConditionedEmbeddingSpec for PooledSpec<L> {
    /// Variables `each.0.weight`, `each.0.bias`, `each.1.weight`, …, of the perceptron over each vector, and
    /// `all.0.weight`, …, of that behind the mean.
    fn build(
        &self,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedEmbedding>> {
        ensure(self.info().problem)?;
        let (inputs, mean) = (self.encoding.width(self.width), self.mean_width());
        let dims = [self.num_embeddings, self.embedding_dim];
        let start = LayerInit { bias_share: BIAS_SHARE, ..LayerInit::PLAIN };
        let (activation, of_each, of_all) = (self.activation, vb.pp("each"), vb.pp("all"));
        let each = Mlp::new(inputs, &self.widths, activation, mean, start, scheme, &of_each)?;
        let outputs = dims[0] * dims[1];
        let all = Mlp::new(mean, &[mean], activation, outputs, start, scheme, &of_all)?;
        let normalised = scheme == InitScheme::Exact;
        Ok(Box::new(Pooled { each, all, dims, encoding: self.encoding, normalised }))
    }
}

#[derive(Clone, Debug)]
struct Pooled {
    each: Mlp,
    all: Mlp,
    dims: [usize; 2],
    encoding: Encoding,
    normalised: bool,
}

impl Pooled {
    fn normalise(&self, rows: Tensor) -> Result<Tensor> {
        if self.normalised { unit_rms(&rows) } else { Ok(rows) }
    }
}

impl ConditionedEmbedding for Pooled {
    fn forward(&self, condition: &Tensor, state: &State) -> Result<(Embedded, State)> {
        self.forward_sequences(&Sequences::new(condition)?, state)
    }

    fn forward_sequences(&self, sequences: &Sequences, state: &State) -> Result<(Embedded, State)> {
        let each = self.each.forward(&self.encoding.encode(sequences.values())?)?;
        let mean = self.normalise(sequences.mean(&each)?)?;
        let flat = self.normalise(self.all.forward(&mean)?)?;
        let [rows, width] = self.dims;
        Ok((Embedded::PerSet(flat.reshape(((), rows, width))?), state.clone()))
    }
}
