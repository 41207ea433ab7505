//! Embeddings that take the condition.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::{Embedding, EmbeddingSpec};
use crate::check::ensure_same_device;
use crate::condition::Sequences;
use crate::init::InitScheme;
use crate::memory::ensure_room;

/// What a conditioned embedding gives to the generator.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Embedded {
    /// `[N, E]`, the same for every set.
    Shared(Tensor),
    /// `[G, N, E]`.
    PerSet(Tensor),
    /// A table `[N, E]` whose rows are scaled by the gains `[G, N]` of each set.
    Scaled {
        /// `[N, E]`.
        table: Tensor,
        /// `[G, N]`.
        gains: Tensor,
    },
}

impl Embedded {
    /// The embeddings of `sets` sets, `[G, N, E]`.
    ///
    /// # Errors
    /// candle's own.
    pub fn per_set(&self, sets: usize) -> Result<Tensor> {
        match self {
            Self::Shared(table) => table.broadcast_left(sets),
            Self::PerSet(embeddings) => Ok(embeddings.clone()),
            Self::Scaled { table, gains } => {
                table.unsqueeze(0)?.broadcast_mul(&gains.unsqueeze(2)?)
            }
        }
    }
}

/// What a recurrent embedding carries from one step to the next; nothing for other embeddings.
#[derive(Clone, Debug, Default)]
pub struct State {
    tensors: Vec<Tensor>,
}

impl State {
    /// A state of tensors `[G, …]`.
    pub fn new(tensors: Vec<Tensor>) -> Self {
        Self { tensors }
    }

    /// A state of `count` tensors of zeros, `[sets, width]` each.
    ///
    /// # Errors
    /// candle's own.
    pub fn zeros(
        count: usize,
        sets: usize,
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        ensure_room(|| "the state".to_owned(), &[count, sets, width], dtype, device)?;
        let zeros = (0..count).map(|_| Tensor::zeros((sets, width), dtype, device));
        Ok(Self { tensors: zeros.collect::<Result<_>>()? })
    }

    /// The state's tensors, `[G, …]` each: the hidden state, and the cell state of an LSTM.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// This state's values, cut off from the graph of the steps before.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self { tensors: self.tensors.iter().map(Tensor::detach).collect() }
    }

    /// Whether it serves `sets` sets, `width` values each, of the dtype and on the device of `like`.
    pub(crate) fn check(
        &self,
        count: usize,
        sets: usize,
        width: usize,
        like: &Tensor,
    ) -> Result<()> {
        if self.tensors.len() != count {
            crate::error::bail!(
                shape,
                "the state has {} tensors, expected {count}",
                self.tensors.len()
            );
        }
        for tensor in &self.tensors {
            if tensor.dims() != [sets, width] {
                crate::error::bail!(
                    shape,
                    "the state has shape {:?}, but the condition has {sets} rows: expected [{sets}, {width}]",
                    tensor.dims()
                );
            }
            if tensor.dtype() != like.dtype() {
                crate::error::bail!(
                    dtype,
                    "the state is {:?}, but the hypernetwork {:?}",
                    tensor.dtype(),
                    like.dtype()
                );
            }
            ensure_same_device(
                "the state",
                tensor.device().location(),
                "the hypernetwork",
                like.device().location(),
            )?;
        }
        Ok(())
    }
}

/// An embedding of a dynamic hypernetwork.
pub trait ConditionedEmbedding: std::fmt::Debug + Send + Sync {
    /// What the first step starts from, for `sets` sets.
    ///
    /// # Errors
    /// candle's own.
    fn zero_state(&self, sets: usize) -> Result<State> {
        let _ = sets;
        Ok(State::default())
    }

    /// The embeddings for a condition `[G, width]` or `[G]`, or for sequences of one length `[G, T, width]`, and the
    /// state of the next step.
    ///
    /// # Errors
    /// A state of another number of sets, an unknown task, or candle's own.
    fn forward(&self, condition: &Tensor, state: &State) -> Result<(Embedded, State)>;

    /// The embeddings for sequences or sets, and the state of the next step, of an embedding that is conditioned on
    /// [`Condition::Sequence`](crate::Condition::Sequence) or [`Condition::Set`](crate::Condition::Set).
    ///
    /// Unless it is written otherwise, those of [`forward`](Self::forward) for the vectors `[G, T, width]`.
    ///
    /// # Errors
    /// Sequences of several lengths, unless the embedding says what to do with them; or those of `forward`.
    fn forward_sequences(&self, sequences: &Sequences, state: &State) -> Result<(Embedded, State)> {
        if !sequences.is_full() {
            crate::error::bail!(
                condition,
                "the embedding takes sequences of one length, but these have the lengths {:?}: `forward_sequences` would take them",
                sequences.lengths()
            );
        }
        self.forward(sequences.values(), state)
    }

    /// Adds `count` tasks, with variables below `vb`; what is there stays as it is.
    ///
    /// # Errors
    /// The embedding has no tasks, or the builder's own.
    fn add_tasks(&mut self, count: usize, scheme: InitScheme, vb: VarBuilder<'_>) -> Result<()> {
        let _ = (count, scheme, vb);
        crate::error::bail!(declaration, "only an embedding of `tasks` can grow")
    }
}

/// What is written after `embedding:` where `mode: dynamic`; every [`EmbeddingSpec`] is one too.
///
/// The type has the inherent function `info` of [`EmbeddingSpec`], whose result also says what the embedding is
/// conditioned on: `EmbeddingInfo::new(n, e).condition(Condition::Vector(width))`.
///
/// One of your own that takes sets of vectors, of any number:
///
/// ```
/// use candle_core::{DType, Device, Result, Tensor};
/// use hypernn::embedding::{
///     ConditionedEmbedding, ConditionedEmbeddingSpec, Embedded, EmbeddingInfo, State,
/// };
/// use hypernn::init::InitScheme;
/// use hypernn::nn::{Linear, VarBuilder, VarMap};
/// use hypernn::{Condition, HyperTarget, Sequences, hypernetwork};
///
/// /// One embedding: the mean of the vectors.
/// #[derive(Clone, Copy, Debug)]
/// pub struct Mean(usize);
///
/// impl Mean {
///     const fn info(&self) -> EmbeddingInfo {
///         EmbeddingInfo::new(1, self.0).condition(Condition::Set(self.0))
///     }
/// }
///
/// impl std::fmt::Display for Mean {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         write!(f, "Mean({})", self.0)
///     }
/// }
///
/// impl ConditionedEmbeddingSpec for Mean {
///     fn build(&self, _: InitScheme, _: VarBuilder<'_>) -> Result<Box<dyn ConditionedEmbedding>> {
///         Ok(Box::new(*self))
///     }
/// }
///
/// impl ConditionedEmbedding for Mean {
///     fn forward(&self, condition: &Tensor, state: &State) -> Result<(Embedded, State)> {
///         self.forward_sequences(&Sequences::new(condition)?, state)
///     }
///
///     fn forward_sequences(&self, sets: &Sequences, state: &State) -> Result<(Embedded, State)> {
///         let mean = sets.mean(sets.values())?.unsqueeze(1)?;
///         Ok((Embedded::PerSet(mean), state.clone()))
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
///     struct HyperNet for Net { embedding: Mean(3), generator: linear, mode: dynamic }
/// }
///
/// # fn main() -> Result<()> {
/// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
/// let sets = [Tensor::ones((4, 3), DType::F32, &Device::Cpu)?, Tensor::ones((9, 3), DType::F32, &Device::Cpu)?];
/// let params = hyper.generate_params(&Sequences::pad(&sets)?)?;
/// assert_eq!(params.flat()?.dims(), [2, 10]);
/// # Ok(())
/// # }
/// ```
///
/// What `Display` writes is in checkpoints, and another declaration must write the same to load one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the embedding of a hypernetwork",
    label = "not an embedding",
    note = "write `rnn(width, 32, 4)`, `gru(…)`, `lstm(…)`, `encoder(width, [64], tanh, 32, 4)`, `tasks(10, 32, 4)` or `table(64, 8)`; for sequences and sets `perceiver(width, 32, 4, 2, 1)`, `transformer(…)` or `pooled(width, [64], tanh, 32, 4)`; or a value whose type implements `hypernn::embedding::ConditionedEmbeddingSpec`"
)]
pub trait ConditionedEmbeddingSpec: std::fmt::Display {
    /// What a checkpoint says of the embedding, and what another must say to load it: how it is
    /// written, without sizes in which the two may differ.
    fn in_files(&self) -> String {
        self.to_string()
    }

    /// Builds the embedding, with its variables below `vb`.
    ///
    /// # Errors
    /// A size is zero, or the builder's own.
    fn build(
        &self,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedEmbedding>>;
}

#[diagnostic::do_not_recommend]
impl<S: EmbeddingSpec> ConditionedEmbeddingSpec for S {
    fn build(
        &self,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedEmbedding>> {
        Ok(Box::new(UnconditionedEmbedding(EmbeddingSpec::build(self, scheme, vb)?)))
    }
}

/// An embedding that leaves the condition to the generator.
#[derive(Debug)]
struct UnconditionedEmbedding(Box<dyn Embedding>);

impl ConditionedEmbedding for UnconditionedEmbedding {
    fn forward(&self, _condition: &Tensor, state: &State) -> Result<(Embedded, State)> {
        Ok((Embedded::Shared(self.0.forward()?), state.clone()))
    }

    fn forward_sequences(&self, _: &Sequences, state: &State) -> Result<(Embedded, State)> {
        Ok((Embedded::Shared(self.0.forward()?), state.clone()))
    }
}
