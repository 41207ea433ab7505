//! Embeddings: what a weight generator starts from.

mod attention;
mod conditioned;
mod encoder;
mod perceiver;
mod pooled;
mod recurrent;
mod table;
mod tasks;
mod transformer;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

pub use crate::info::EmbeddingInfo;
use crate::init::InitScheme;
pub use attention::Positions;
pub use conditioned::{ConditionedEmbedding, ConditionedEmbeddingSpec, Embedded, State};
pub use encoder::EncoderSpec;
pub use perceiver::PerceiverSpec;
pub use pooled::PooledSpec;
pub use recurrent::RecurrentSpec;
pub use table::{Table, TableSpec};
pub use tasks::TasksSpec;
pub use transformer::TransformerSpec;

/// The embeddings as they are written after `embedding:`.
pub mod spec {
    pub use super::attention::{rotary, unordered};
    pub use super::encoder::encoder;
    pub use super::perceiver::perceiver;
    pub use super::pooled::pooled;
    pub use super::recurrent::{gru, lstm, rnn};
    pub use super::table::table;
    pub use super::tasks::tasks;
    pub use super::transformer::transformer;
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
/// The type also has an inherent function, which the macro evaluates at compile time:
/// `const fn info(&self) -> EmbeddingInfo`.
///
/// ```
/// use candle_core::{DType, Device, Result, Tensor};
/// use hypernn::embedding::{Embedding, EmbeddingInfo, EmbeddingSpec};
/// use hypernn::init::InitScheme;
/// use hypernn::nn::{Linear, VarBuilder, VarMap};
/// use hypernn::{HyperTarget, hypernetwork};
///
/// /// The rows of an identity matrix, each times a learned number.
/// #[derive(Clone, Copy)]
/// pub struct Diagonal(usize);
///
/// impl Diagonal {
///     const fn info(&self) -> EmbeddingInfo {
///         EmbeddingInfo::new(self.0, self.0).params(self.0)
///     }
/// }
///
/// impl std::fmt::Display for Diagonal {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         write!(f, "Diagonal({})", self.0)
///     }
/// }
///
/// impl EmbeddingSpec for Diagonal {
///     fn build(&self, scheme: InitScheme, vb: VarBuilder<'_>) -> Result<Box<dyn Embedding>> {
///         let numbers = vb.get_with_hints(self.0, "weight", scheme.weight(1, 1.))?;
///         Ok(Box::new(DiagonalEmbedding { numbers }))
///     }
/// }
///
/// #[derive(Debug)]
/// struct DiagonalEmbedding {
///     numbers: Tensor,
/// }
///
/// impl Embedding for DiagonalEmbedding {
///     fn forward(&self) -> Result<Tensor> {
///         let numbers = &self.numbers;
///         let rows = Tensor::eye(numbers.dim(0)?, numbers.dtype(), numbers.device())?;
///         rows.broadcast_mul(numbers)
///     }
/// }
///
/// #[derive(HyperTarget)]
/// struct Net {
///     #[hyper(linear(4, 2))]
///     fc: Linear,
/// }
///
/// hypernetwork! {
///     struct HyperNet for Net { embedding: Diagonal(5), generator: linear, mode: static }
/// }
///
/// # fn main() -> Result<()> {
/// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
/// assert_eq!(HyperNet::NUM_PARAMS, 5 + (5 + 1) * 2);
/// assert_eq!(hyper.generate_params()?.flat()?.dims(), [10]);
/// # Ok(())
/// # }
/// ```
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
