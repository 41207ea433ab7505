//! Embeddings: what a weight generator starts from.

mod conditioned;
mod encoder;
mod recurrent;
mod table;
mod tasks;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::init::InitScheme;
pub use conditioned::{ConditionedEmbedding, ConditionedEmbeddingSpec, Embedded, State};
pub use encoder::EncoderSpec;
pub use recurrent::RecurrentSpec;
pub use table::{Table, TableSpec};
pub use tasks::TasksSpec;

/// The embeddings as they are written after `embedding:`.
pub mod spec {
    pub use super::encoder::encoder;
    pub use super::recurrent::{gru, lstm, rnn};
    pub use super::table::table;
    pub use super::tasks::tasks;
    pub use crate::condition::{cos_sin, raw};
    pub use crate::mlp::{gelu, identity, relu, sigmoid, silu, tanh};
}

/// Embeddings that come from learned variables alone: `N` rows of width `E`.
pub trait Embedding: std::fmt::Debug + Send + Sync {
    /// The embeddings, `[N, E]`.
    ///
    /// # Errors
    /// candle's own.
    fn forward(&self) -> Result<Tensor>;
}

/// What is written after `embedding:`, a plain value that builds an [`Embedding`].
///
/// The type also has four inherent functions, which the macro evaluates at compile time:
/// `const fn num_embeddings(&self) -> usize`, `const fn embedding_dim(&self) -> usize`,
/// `const fn num_params(&self) -> usize` and `const fn check(&self) -> Option<Problem>`. See [`generator`](crate::generator) for an example of
/// both parts written by hand.
///
/// What `Display` writes is in checkpoints, and another declaration must write the same to load one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the embedding of a static hypernetwork",
    label = "not an embedding without a condition",
    note = "write `table(64, 8)`, or a value whose type implements `hypernn::embedding::EmbeddingSpec`",
    note = "an embedding that takes the input needs `mode: dynamic`"
)]
pub trait EmbeddingSpec: std::fmt::Display {
    /// Builds the embedding, with its variables below `vb`.
    ///
    /// # Errors
    /// A size is zero, or the builder's own.
    fn build(&self, scheme: InitScheme, vb: VarBuilder<'_>) -> Result<Box<dyn Embedding>>;
}
