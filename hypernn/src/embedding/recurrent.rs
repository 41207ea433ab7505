//! A learned table whose rows are scaled by the hidden state of a recurrent cell, one value per row:
//! hyper-nn's dynamic embedding.

use candle_core::{D, Result, Tensor};
use candle_nn::rnn::{GRUState, LSTMState, RNN};
use candle_nn::{GRUConfig, Init, LSTMConfig, VarBuilder};

use super::{ConditionedEmbedding, ConditionedEmbeddingSpec, Embedded, State};
use crate::check::{ensure, product, sum, too_many, too_many_together, zero};
use crate::condition::{Condition, Encoding};
use crate::info::EmbeddingInfo;
use crate::init::{self, BIAS_SHARE, InitScheme};
use crate::mlp::Dense;
use crate::nn::{GRU, LSTM};
use crate::ops::activation::tanh;
use crate::ops::internal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
enum CellKind {
    Rnn,
    Gru,
    Lstm,
}

impl CellKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Rnn => "rnn",
            Self::Gru => "gru",
            Self::Lstm => "lstm",
        }
    }

    const fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }
}

/// `embedding: rnn(width, num_embeddings, embedding_dim)`, and likewise `gru` and `lstm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct RecurrentSpec {
    cell: CellKind,
    width: usize,
    num_embeddings: usize,
    embedding_dim: usize,
    #[cfg_attr(feature = "serde", serde(default))]
    encoding: Encoding,
}

/// `embedding: rnn(width, num_embeddings, embedding_dim)`: a table of embeddings, scaled row by row
/// by the hidden state `h' = tanh(W x + b + U h + c)`, whose width is the number of embeddings.
///
/// Under the exact init the hidden state is divided by its root mean square, so that the weights'
/// scale does not depend on the condition's, and biases start as normal numbers, whose sum has a variance
/// of ¼, so that there is something to divide for a condition of zero; under `hyper_nn` it is taken as it
/// is. Rows then have a mean square of one together, not each: under a generator with hidden layers, whose
/// activation is no linear function, the scale is a nearer or farther one. With one embedding nothing but the state's sign is left by that division: take at least two.
pub const fn rnn(width: usize, num_embeddings: usize, embedding_dim: usize) -> RecurrentSpec {
    RecurrentSpec::new(CellKind::Rnn, width, num_embeddings, embedding_dim)
}

/// `embedding: gru(width, num_embeddings, embedding_dim)`: as [`rnn`], with a gated recurrent unit.
///
/// Where a condition is so large that gates are closed, from some hundreds on, a row whose gate is closed is zero,
/// half of them on average, and learns nothing; with few embeddings all may be. Give conditions of ordinary size:
/// what would keep a gate open there is another cell, with other numbers for every condition and every checkpoint.
pub const fn gru(width: usize, num_embeddings: usize, embedding_dim: usize) -> RecurrentSpec {
    RecurrentSpec::new(CellKind::Gru, width, num_embeddings, embedding_dim)
}

/// `embedding: lstm(width, num_embeddings, embedding_dim)`: as [`rnn`], with a long short-term
/// memory.
///
/// Where a condition is so large that gates are closed, from some hundreds on, a row one of whose two gates is closed
/// is zero, three of four on average, and learns nothing; with few embeddings all may be, with probability
/// 0.75 to the power of their number. Give conditions of ordinary size: what would keep a gate open there is another
/// cell, with other numbers for every condition and every checkpoint.
pub const fn lstm(width: usize, num_embeddings: usize, embedding_dim: usize) -> RecurrentSpec {
    RecurrentSpec::new(CellKind::Lstm, width, num_embeddings, embedding_dim)
}

impl RecurrentSpec {
    const fn new(
        cell: CellKind,
        width: usize,
        num_embeddings: usize,
        embedding_dim: usize,
    ) -> Self {
        Self { cell, width, num_embeddings, embedding_dim, encoding: Encoding::Raw }
    }

    /// How the condition enters.
    #[must_use]
    pub const fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// The embedding's sizes, and what is wrong with them, if anything; the condition is a vector. The hidden state has the
    /// width `N`.
    pub const fn info(&self) -> EmbeddingInfo {
        let (name, gates) = (self.cell.name(), self.cell.gates());
        let (rows, width) = (self.num_embeddings, self.embedding_dim);
        let inputs = self.encoding.width(self.width);
        let of_row = sum(&[width, product(&[gates, sum(&[inputs, rows, 2])])]);
        let num_params = product(&[rows, of_row]);
        EmbeddingInfo::new(rows, width)
            .params(num_params)
            .condition(Condition::Vector(self.width))
            .checked(zero(name, "width", self.width))
            .checked(zero(name, "num_embeddings", rows))
            .checked(zero(name, "embedding_dim", width))
            .checked(too_many(name, &[rows, width]))
            .checked(too_many(name, &[gates, rows, rows]))
            .checked(too_many(name, &[gates, rows, inputs]))
            .checked(too_many_together(name, num_params))
    }

    fn cell(&self, scheme: InitScheme, vb: &VarBuilder<'_>) -> Result<StateCell> {
        let (inputs, hidden) = (self.encoding.width(self.width), self.num_embeddings);
        // PyTorch draws all of a cell's weights by the hidden width.
        let (w_ih_init, w_hh_init, bias) = match scheme {
            InitScheme::Exact => {
                // There are two of them.
                let bias = Init::Randn { mean: 0., stdev: (BIAS_SHARE / 2.).sqrt() };
                (scheme.weight(inputs, 1.), scheme.weight(hidden, 1.), bias)
            }
            InitScheme::HyperNn => (scheme.bias(hidden), scheme.bias(hidden), scheme.bias(hidden)),
        };
        let (b_ih_init, b_hh_init) = (Some(bias), Some(bias));
        match self.cell {
            CellKind::Rnn => {
                Rnn::new(inputs, hidden, w_ih_init, w_hh_init, bias, vb).map(StateCell::Rnn)
            }
            CellKind::Gru => {
                let config = GRUConfig { w_ih_init, w_hh_init, b_ih_init, b_hh_init };
                GRU::new(inputs, hidden, config, vb.clone()).map(StateCell::Gru)
            }
            CellKind::Lstm => {
                let config = LSTMConfig {
                    w_ih_init,
                    w_hh_init,
                    b_ih_init,
                    b_hh_init,
                    ..LSTMConfig::default()
                };
                LSTM::new(inputs, hidden, config, vb.clone()).map(StateCell::Lstm)
            }
        }
    }
}

impl std::fmt::Display for RecurrentSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cell, width, num_embeddings, embedding_dim, encoding } = self;
        write!(f, "{}({width}, {num_embeddings}, {embedding_dim})", cell.name())?;
        f.write_str(encoding.suffix())
    }
}

#[diagnostic::do_not_recommend]
impl ConditionedEmbeddingSpec for RecurrentSpec {
    /// Variables `weight` `[N, E]`, and those of the cell below `cell`.
    fn build(
        &self,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedEmbedding>> {
        ensure(self.info().problem)?;
        let table = init::table(scheme, self.num_embeddings, self.embedding_dim, &vb)?;
        let cell = self.cell(scheme, &vb.pp("cell"))?;
        let normalised = scheme == InitScheme::Exact;
        Ok(Box::new(RecurrentEmbedding { table, cell, encoding: self.encoding, normalised }))
    }
}

#[derive(Clone, Debug)]
struct RecurrentEmbedding {
    table: Tensor,
    cell: StateCell,
    encoding: Encoding,
    normalised: bool,
}

impl ConditionedEmbedding for RecurrentEmbedding {
    fn zero_state(&self, sets: usize) -> Result<State> {
        let hidden = self.table.dim(0)?;
        State::zeros(self.cell.states(), sets, hidden, self.table.dtype(), self.table.device())
    }

    fn forward(&self, condition: &Tensor, state: &State) -> Result<(Embedded, State)> {
        let (sets, hidden) = (condition.dim(0)?, self.table.dim(0)?);
        state.check(self.cell.states(), sets, hidden, &self.table)?;
        let state = self.cell.step(&self.encoding.encode(condition)?, state)?;
        let gains = if self.normalised {
            unit_rms(&state.tensors()[0])?
        } else {
            state.tensors()[0].clone()
        };
        Ok((Embedded::Scaled { table: self.table.clone(), gains }, state))
    }
}

/// Each row divided by its root mean square.
pub(super) fn unit_rms(rows: &Tensor) -> Result<Tensor> {
    // In f16 what is added is zero, and the square of a large number infinite.
    let values = rows.to_dtype(internal(rows.dtype()))?;
    let mean_square = values.sqr()?.mean_keepdim(D::Minus1)?;
    values.broadcast_div(&(mean_square + 1e-8)?.sqrt()?)?.to_dtype(rows.dtype())
}

#[derive(Clone, Debug)]
enum StateCell {
    Rnn(Rnn),
    Gru(GRU),
    Lstm(LSTM),
}

impl StateCell {
    /// How many tensors it carries.
    fn states(&self) -> usize {
        match self {
            Self::Rnn(_) | Self::Gru(_) => 1,
            Self::Lstm(_) => 2,
        }
    }

    fn step(&self, xs: &Tensor, state: &State) -> Result<State> {
        let tensors = state.tensors();
        Ok(State::new(match self {
            Self::Rnn(cell) => vec![cell.step(xs, &tensors[0])?],
            Self::Gru(cell) => vec![cell.step(xs, &GRUState { h: tensors[0].clone() })?.h],
            Self::Lstm(cell) => {
                let state = LSTMState::new(tensors[0].clone(), tensors[1].clone());
                let LSTMState { h, c } = cell.step(xs, &state)?;
                vec![h, c]
            }
        }))
    }
}

/// `h' = tanh(W x + b + U h + c)`, with PyTorch's names.
#[derive(Clone, Debug)]
struct Rnn {
    inputs: Dense,
    hidden: Dense,
}

impl Rnn {
    /// The cell's variables: `weight_ih [hidden, inputs]`, `weight_hh [hidden, hidden]`, and two biases `[hidden]`.
    fn new(
        inputs: usize,
        hidden: usize,
        w_ih: Init,
        w_hh: Init,
        bias: Init,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let get = |dims: &[usize], name, init| vb.get_with_hints(dims, name, init);
        let weights = [
            get(&[hidden, inputs], "weight_ih", w_ih)?,
            get(&[hidden, hidden], "weight_hh", w_hh)?,
        ];
        let [w_ih, w_hh] = weights;
        let (b_ih, b_hh) = (get(&[hidden], "bias_ih", bias)?, get(&[hidden], "bias_hh", bias)?);
        let dense = |weight, bias| Dense { weight, bias };
        Ok(Self { inputs: dense(w_ih, b_ih), hidden: dense(w_hh, b_hh) })
    }

    fn step(&self, xs: &Tensor, h: &Tensor) -> Result<Tensor> {
        tanh(&(self.inputs.forward(xs)? + self.hidden.forward(h)?)?)
    }
}
