//! A perceptron from the condition to all embeddings.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::recurrent::unit_rms;
use super::{ConditionedEmbedding, ConditionedEmbeddingSpec, Embedded, State};
use crate::check::{Problem, ensure, first, product, zero};
use crate::condition::{Condition, Encoding};
use crate::init::{BIAS_SHARE, InitScheme};
use crate::mlp::{self, Activation, Mlp, Start, num_params};

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

    /// `N`, the number of embeddings.
    pub const fn num_embeddings(&self) -> usize {
        self.num_embeddings
    }

    /// `E`, the width of an embedding.
    pub const fn embedding_dim(&self) -> usize {
        self.embedding_dim
    }

    /// A vector.
    pub const fn condition(&self) -> Condition {
        Condition::Vector(self.width)
    }

    /// The number of its variables' values.
    pub const fn num_params(&self) -> usize {
        let outputs = product(&[self.num_embeddings, self.embedding_dim]);
        num_params(self.encoding.width(self.width), self.widths, outputs)
    }

    /// What is wrong with the sizes, if anything.
    pub const fn check(&self) -> Option<Problem> {
        let mut i = 0;
        while i < L {
            if let Some(problem) = zero("encoder", "a hidden width", self.widths[i]) {
                return Some(problem);
            }
            i += 1;
        }
        let (inputs, outputs) =
            (self.encoding.width(self.width), [self.num_embeddings, self.embedding_dim]);
        first(&[
            zero("encoder", "width", self.width),
            zero("encoder", "num_embeddings", self.num_embeddings),
            zero("encoder", "embedding_dim", self.embedding_dim),
            mlp::too_many("encoder", inputs, self.widths, product(&outputs)),
        ])
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
        ensure(self.check())?;
        let (inputs, dims) =
            (self.encoding.width(self.width), [self.num_embeddings, self.embedding_dim]);
        let outputs = dims[0] * dims[1];
        let start = Start { bias_share: BIAS_SHARE, ..Start::PLAIN };
        let hidden = (&self.widths[..], self.activation);
        let mlp = Mlp::new(inputs, hidden, outputs, start, scheme, &vb)?;
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
