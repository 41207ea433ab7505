//! The long short-term memory.

use candle_core::{D, Result, Tensor};
use candle_nn::rnn::{Direction, LSTMState};
use candle_nn::{Init, LSTMConfig, RNN, VarBuilder};

use super::affine::Affine;
use super::recurrent;
use super::recurrent::{CellSpec, RecurrentCell};
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::{ParamSource, VarBuilderSource};

const GATES: usize = 4;

/// What an LSTM is made of: `lstm(in_dim, hidden_dim)` in an attribute.
#[derive(Clone, Copy, Debug)]
pub struct LSTMSpec {
    in_dim: usize,
    hidden_dim: usize,
    config: LSTMConfig,
}

impl LSTMSpec {
    /// No biases.
    #[must_use]
    pub const fn no_bias(mut self) -> Self {
        self.config.b_ih_init = None;
        self.config.b_hh_init = None;
        self
    }

    /// The number in the names of the tensors.
    #[must_use]
    pub const fn layer_idx(mut self, layer_idx: usize) -> Self {
        self.config.layer_idx = layer_idx;
        self
    }

    /// The direction in the names of the tensors; it does not change the order of steps.
    #[must_use]
    pub const fn direction(mut self, direction: Direction) -> Self {
        self.config.direction = direction;
        self
    }

    /// Every setting and the initialisation at once, as candle's configuration has them.
    #[must_use]
    pub const fn config(mut self, config: LSTMConfig) -> Self {
        self.config = config;
        self
    }

    /// The layer's tensors, what it takes for one sample, and what is wrong with its sizes, if anything.
    pub const fn info(&self) -> LayerInfo {
        let biases = [self.config.b_ih_init.is_some(), self.config.b_hh_init.is_some()];
        recurrent::info("lstm", GATES, self.in_dim, self.hidden_dim, biases)
    }

    /// The shape of the output of one sample: that of the input, with a last dimension `hidden_dim`.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(input.with_last(self.hidden_dim))
    }

    fn cell(&self, source: &mut dyn ParamSource) -> Result<RecurrentCell> {
        crate::check::ensure(self.info().problem)?;
        CellSpec {
            layer: "lstm",
            suffix: suffix(&self.config),
            in_dim: self.in_dim,
            hidden_dim: self.hidden_dim,
            gates: GATES,
            weights: [self.config.w_ih_init, self.config.w_hh_init],
            biases: [self.config.b_ih_init, self.config.b_hh_init],
        }
        .build(source)
    }
}

fn suffix(config: &LSTMConfig) -> String {
    let direction = match config.direction {
        Direction::Forward => "",
        Direction::Backward => "_reverse",
    };
    format!("_l{}{direction}", config.layer_idx)
}

/// The attribute's constructors.
pub mod spec {
    use super::{Direction, Init, LSTMConfig, LSTMSpec};

    /// `#[hyper(lstm(in_dim, hidden_dim))]`.
    pub const fn lstm(in_dim: usize, hidden_dim: usize) -> LSTMSpec {
        let config = LSTMConfig {
            w_ih_init: candle_nn::init::DEFAULT_KAIMING_UNIFORM,
            w_hh_init: candle_nn::init::DEFAULT_KAIMING_UNIFORM,
            b_ih_init: Some(Init::Const(0.)),
            b_hh_init: Some(Init::Const(0.)),
            layer_idx: 0,
            direction: Direction::Forward,
        };
        LSTMSpec { in_dim, hidden_dim, config }
    }
}

/// A long short-term memory, as `candle_nn::LSTM`.
///
/// `weight_ih` is `[4 hidden, in]`, `weight_hh` `[4 hidden, hidden]`, each bias `[4 hidden]`, and
/// each may have `G` sets in front.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use hypernn::nn::{LSTM, LSTMConfig, RNN, VarBuilder};
///
/// # fn main() -> candle_core::Result<()> {
/// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let layer = LSTM::new(3, 2, LSTMConfig::default(), vb)?;
/// // One row of five steps.
/// let states = layer.seq(&Tensor::ones((1, 5, 3), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(layer.states_to_tensor(&states)?.dims(), [1, 5, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LSTM {
    cell: RecurrentCell,
    config: LSTMConfig,
}

impl LSTM {
    /// A layer over the builder's variables `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0` and
    /// `bias_hh_l0`, with the configuration's number for 0 and `_reverse` behind where backward.
    ///
    /// # Errors
    /// A size is zero, or the builder's tensors have another shape.
    pub fn new(
        in_dim: usize,
        hidden_dim: usize,
        config: LSTMConfig,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        Self::build(&LSTMSpec { in_dim, hidden_dim, config }, &mut VarBuilderSource::new(vb))
    }

    /// A layer over existing tensors.
    ///
    /// # Errors
    /// The shapes do not fit together.
    pub fn from_weights(
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Option<Tensor>,
        b_hh: Option<Tensor>,
        config: LSTMConfig,
    ) -> Result<Self> {
        let (suffix, hidden_dim) = (suffix(&config), w_hh.dim(D::Minus1)?);
        let (inputs, state) = (Affine::new(w_ih, b_ih), Affine::new(w_hh, b_hh));
        let cell = RecurrentCell { layer: "lstm", suffix, inputs, state, hidden_dim };
        Ok(Self { cell: cell.checked(GATES)?, config })
    }

    /// How the cell's variables start, and what they are called.
    pub fn config(&self) -> &LSTMConfig {
        &self.config
    }

    /// The weight on the input, `[4 × hidden, in]`, or `[G, …]` for `G` sets.
    pub fn w_ih(&self) -> &Tensor {
        self.cell.inputs.weight.shown(2)
    }

    /// The weight on the state, `[4 × hidden, hidden]`, or `[G, …]` for `G` sets.
    pub fn w_hh(&self) -> &Tensor {
        self.cell.state.weight.shown(2)
    }

    /// The bias on the input, `[4 × hidden]`, or `[G, …]` for `G` sets.
    pub fn b_ih(&self) -> Option<&Tensor> {
        self.cell.inputs.shown_bias()
    }

    /// The bias on the state, `[4 × hidden]`, or `[G, …]` for `G` sets.
    pub fn b_hh(&self) -> Option<&Tensor> {
        self.cell.state.shown_bias()
    }
}

impl RNN for LSTM {
    type State = LSTMState;

    fn zero_state(&self, batch_dim: usize) -> Result<LSTMState> {
        let zeros = self.cell.zeros(batch_dim)?;
        Ok(LSTMState { h: zeros.clone(), c: zeros })
    }

    /// As candle does it, but for the gradient of the input, which is collected from all steps at once.
    fn seq_init(&self, input: &Tensor, init_state: &LSTMState) -> Result<Vec<LSTMState>> {
        recurrent::seq(input, init_state, |xs, state| self.step(xs, state))
    }

    fn step(&self, input: &Tensor, state: &LSTMState) -> Result<LSTMState> {
        let (from_input, from_state) = self.cell.gates(input, &state.h)?;
        let gates = (from_input + from_state)?.chunk(GATES, 1)?;
        let [input, forget, cell, output] = &gates[..] else {
            candle_core::bail!("lstm: {} gates, expected {GATES}", gates.len());
        };
        let kept = (recurrent::sigmoid(forget)? * &state.c)?;
        let c = (kept + (recurrent::sigmoid(input)? * cell.tanh()?)?)?;
        let h = (recurrent::sigmoid(output)? * c.tanh()?)?;
        Ok(LSTMState { h, c })
    }

    fn states_to_tensor(&self, states: &[LSTMState]) -> Result<Tensor> {
        Tensor::stack(&states.iter().map(|state| &state.h).collect::<Vec<_>>(), 1)
    }
}

impl HyperLayer<LSTMSpec> for LSTM {
    const TAKES_SETS: bool = true;

    fn build(spec: &LSTMSpec, source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self { cell: spec.cell(source)?, config: spec.config })
    }
}

impl Parameters for LSTM {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.cell.visit(visitor)
    }
}

impl HyperLayer<LSTMSpec> for candle_nn::LSTM {
    fn build(spec: &LSTMSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let vb = spec.cell(source)?.builder("LSTM")?;
        Self::new(spec.in_dim, spec.hidden_dim, spec.config, vb)
    }
}

impl Parameters for candle_nn::LSTM {
    fn visit(&self, _: &mut Visitor<'_>) -> Result<()> {
        candle_core::bail!("candle_nn::LSTM gives no access to its tensors: use hypernn::nn::LSTM")
    }
}

/// An LSTM; see [`LSTM::new`].
///
/// # Errors
/// A size is zero, or the builder's tensors have another shape.
pub fn lstm(
    in_dim: usize,
    hidden_dim: usize,
    config: LSTMConfig,
    vb: VarBuilder<'_>,
) -> Result<LSTM> {
    LSTM::new(in_dim, hidden_dim, config, vb)
}
