//! A perceptron from the condition to all embeddings.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::recurrent::unit_rms;
use super::{ConditionedEmbedding, ConditionedEmbeddingSpec, Embedded, State};
use crate::check::{ensure, product, zero};
use crate::condition::{Condition, Encoding};
use crate::info::EmbeddingInfo;
use crate::init::{BIAS_SHARE, InitScheme};
use crate::mlp::{self, Activation, LayerInit, Mlp, num_params};

/// `embedding: encoder(width, [hidden, …], activation, num_embeddings, embedding_dim)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct EncoderSpec<const L: usize> {
    width: usize,
    #[cfg_attr(feature = "serde", serde(with = "crate::mlp::widths"))]
    widths: [usize; L],
    activation: Activation,
    num_embeddings: usize,
    embedding_dim: usize,
    #[cfg_attr(feature = "serde", serde(default))]
    encoding: Encoding,
}

/// `embedding: encoder(width, [hidden, …], activation, num_embeddings, embedding_dim)`: a perceptron
/// from the condition to all embeddings at once.
///
/// Under the exact init the embeddings of a set are divided by their root mean square, and biases start
/// as normal numbers, with a quarter of each layer's variance, so that there is something to divide for any
/// condition, zero included.
pub const fn encoder<const L: usize>(
    width: usize,
    widths: [usize; L],
    activation: Activation,
    num_embeddings: usize,
    embedding_dim: usize,
) -> EncoderSpec<L> {
    EncoderSpec {
        width,
        widths,
        activation,
        num_embeddings,
        embedding_dim,
        encoding: Encoding::Raw,
    }
}

impl<const L: usize> EncoderSpec<L> {
    /// How the condition enters.
    #[must_use]
    pub const fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// The embedding's sizes, and what is wrong with them, if anything; the condition is a vector.
    pub const fn info(&self) -> EmbeddingInfo {
        let (rows, width) = (self.num_embeddings, self.embedding_dim);
        let (inputs, outputs) = (self.encoding.width(self.width), product(&[rows, width]));
        EmbeddingInfo::new(rows, width)
            .params(num_params(inputs, self.widths, outputs))
            .condition(Condition::Vector(self.width))
            .checked(mlp::zero_width("encoder", self.widths))
            .checked(zero("encoder", "width", self.width))
            .checked(zero("encoder", "num_embeddings", rows))
            .checked(zero("encoder", "embedding_dim", width))
            .checked(mlp::too_many("encoder", inputs, self.widths, outputs))
    }
}

impl<const L: usize> std::fmt::Display for EncoderSpec<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { width, widths, num_embeddings, embedding_dim, .. } = self;
        let activation = self.activation.name();
        write!(f, "encoder({width}, {widths:?}, {activation}, {num_embeddings}, {embedding_dim})")?;
        f.write_str(self.encoding.suffix())
    }
}

#[diagnostic::do_not_recommend]
impl<const L: usize> ConditionedEmbeddingSpec for EncoderSpec<L> {
    /// Variables `0.weight`, `0.bias`, `1.weight`, …, one pair per layer.
    fn build(
        &self,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedEmbedding>> {
        ensure(self.info().problem)?;
        let (inputs, dims) =
            (self.encoding.width(self.width), [self.num_embeddings, self.embedding_dim]);
        let outputs = dims[0] * dims[1];
        let start = LayerInit { bias_share: BIAS_SHARE, ..LayerInit::PLAIN };
        let mlp = Mlp::new(inputs, &self.widths, self.activation, outputs, start, scheme, &vb)?;
        let normalised = scheme == InitScheme::Exact;
        Ok(Box::new(Encoder { mlp, dims, encoding: self.encoding, normalised }))
    }
}

#[derive(Clone, Debug)]
struct Encoder {
    mlp: Mlp,
    dims: [usize; 2],
    encoding: Encoding,
    normalised: bool,
}

impl ConditionedEmbedding for Encoder {
    fn forward(&self, condition: &Tensor, state: &State) -> Result<(Embedded, State)> {
        let flat = self.mlp.forward(&self.encoding.encode(condition)?)?;
        let flat = if self.normalised { unit_rms(&flat)? } else { flat };
        let [rows, width] = self.dims;
        Ok((Embedded::PerSet(flat.reshape(((), rows, width))?), state.clone()))
    }
}
