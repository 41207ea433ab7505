//! The gated recurrent unit.

use candle_core::{D, Result, Tensor};
use candle_nn::rnn::GRUState;
use candle_nn::{GRUConfig, Init, RNN, VarBuilder};

use super::affine::Affine;
use super::recurrent;
use super::recurrent::{CellSpec, RecurrentCell};
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::{ParamSource, VarBuilderSource};

const GATES: usize = 3;

/// What a GRU is made of: `gru(in_dim, hidden_dim)` in an attribute.
#[derive(Clone, Copy, Debug)]
pub struct GRUSpec {
    in_dim: usize,
    hidden_dim: usize,
    config: GRUConfig,
}

impl GRUSpec {
    /// No biases.
    #[must_use]
    pub const fn no_bias(mut self) -> Self {
        self.config.b_ih_init = None;
        self.config.b_hh_init = None;
        self
    }

    /// Biases and initialisation at once.
    #[must_use]
    pub const fn config(mut self, config: GRUConfig) -> Self {
        self.config = config;
        self
    }

    /// The layer's tensors, what it takes for one sample, and what is wrong with its sizes, if anything.
    pub const fn info(&self) -> LayerInfo {
        let biases = [self.config.b_ih_init.is_some(), self.config.b_hh_init.is_some()];
        recurrent::info("gru", GATES, self.in_dim, self.hidden_dim, biases)
    }

    /// The shape of the output of one sample: that of the input, with a last dimension `hidden_dim`.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(input.with_last(self.hidden_dim))
    }

    fn cell(&self, source: &mut dyn ParamSource) -> Result<RecurrentCell> {
        crate::check::ensure(self.info().problem)?;
        CellSpec {
            layer: "gru",
            suffix: "_l0".to_owned(),
            in_dim: self.in_dim,
            hidden_dim: self.hidden_dim,
            gates: GATES,
            weights: [self.config.w_ih_init, self.config.w_hh_init],
            biases: [self.config.b_ih_init, self.config.b_hh_init],
        }
        .build(source)
    }
}

/// The attribute's constructors.
pub mod spec {
    use super::{GRUConfig, GRUSpec, Init};

    /// `#[hyper(gru(in_dim, hidden_dim))]`.
    pub const fn gru(in_dim: usize, hidden_dim: usize) -> GRUSpec {
        let config = GRUConfig {
            w_ih_init: candle_nn::init::DEFAULT_KAIMING_UNIFORM,
            w_hh_init: candle_nn::init::DEFAULT_KAIMING_UNIFORM,
            b_ih_init: Some(Init::Const(0.)),
            b_hh_init: Some(Init::Const(0.)),
        };
        GRUSpec { in_dim, hidden_dim, config }
    }
}

/// A gated recurrent unit, as `candle_nn::GRU`.
///
/// `weight_ih` is `[3 hidden, in]`, `weight_hh` `[3 hidden, hidden]`, each bias `[3 hidden]`, and
/// each may have `G` sets in front.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use hypernn::nn::{GRU, GRUConfig, RNN, VarBuilder};
///
/// # fn main() -> candle_core::Result<()> {
/// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let layer = GRU::new(3, 2, GRUConfig::default(), vb)?;
/// // One row of five steps.
/// let states = layer.seq(&Tensor::ones((1, 5, 3), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(states[4].h().dims(), [1, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct GRU {
    cell: RecurrentCell,
    config: GRUConfig,
}

impl GRU {
    /// A layer over the builder's variables `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0` and
    /// `bias_hh_l0`.
    ///
    /// # Errors
    /// A size is zero, or the builder's tensors have another shape.
    pub fn new(
        in_dim: usize,
        hidden_dim: usize,
        config: GRUConfig,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        Self::build(&GRUSpec { in_dim, hidden_dim, config }, &mut VarBuilderSource::new(vb))
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
        config: GRUConfig,
    ) -> Result<Self> {
        let (suffix, hidden_dim) = ("_l0".to_owned(), w_hh.dim(D::Minus1)?);
        let (inputs, state) = (Affine::new(w_ih, b_ih), Affine::new(w_hh, b_hh));
        let cell = RecurrentCell { layer: "gru", suffix, inputs, state, hidden_dim };
        Ok(Self { cell: cell.checked(GATES)?, config })
    }

    /// How the cell's variables start.
    pub fn config(&self) -> &GRUConfig {
        &self.config
    }

    /// The weight on the input, `[3 × hidden, in]`, or `[G, …]` for `G` sets.
    pub fn w_ih(&self) -> &Tensor {
        self.cell.inputs.weight.shown(2)
    }

    /// The weight on the state, `[3 × hidden, hidden]`, or `[G, …]` for `G` sets.
    pub fn w_hh(&self) -> &Tensor {
        self.cell.state.weight.shown(2)
    }

    /// The bias on the input, `[3 × hidden]`, or `[G, …]` for `G` sets.
    pub fn b_ih(&self) -> Option<&Tensor> {
        self.cell.inputs.shown_bias()
    }

    /// The bias on the state, `[3 × hidden]`, or `[G, …]` for `G` sets.
    pub fn b_hh(&self) -> Option<&Tensor> {
        self.cell.state.shown_bias()
    }
}

impl RNN for GRU {
    type State = GRUState;

    fn zero_state(&self, batch_dim: usize) -> Result<GRUState> {
        Ok(GRUState { h: self.cell.zeros(batch_dim)? })
    }

    /// As candle does it, but for the gradient of the input, which is collected from all steps at once.
    fn seq_init(&self, input: &Tensor, init_state: &GRUState) -> Result<Vec<GRUState>> {
        recurrent::seq(input, init_state, |xs, state| self.step(xs, state))
    }

    fn step(&self, input: &Tensor, state: &GRUState) -> Result<GRUState> {
        let (from_input, from_state) = self.cell.gates(input, &state.h)?;
        let (from_input, from_state) = (from_input.chunk(GATES, 1)?, from_state.chunk(GATES, 1)?);
        let ([input_r, input_z, input_n], [state_r, state_z, state_n]) =
            (&from_input[..], &from_state[..])
        else {
            candle_core::bail!("gru: {} gates, expected {GATES}", from_input.len());
        };
        let reset = recurrent::sigmoid(&(input_r + state_r)?)?;
        let update = recurrent::sigmoid(&(input_z + state_z)?)?;
        let new = (input_n + (reset * state_n)?)?.tanh()?;
        let h = ((&update * &state.h)? - ((&update - 1.)? * new)?)?;
        Ok(GRUState { h })
    }

    /// The states side by side, `[B, steps × hidden]`, as candle does it.
    fn states_to_tensor(&self, states: &[GRUState]) -> Result<Tensor> {
        Tensor::cat(&states.iter().map(|state| &state.h).collect::<Vec<_>>(), 1)
    }
}

impl HyperLayer<GRUSpec> for GRU {
    const TAKES_SETS: bool = true;

    fn build(spec: &GRUSpec, source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self { cell: spec.cell(source)?, config: spec.config })
    }
}

impl Parameters for GRU {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.cell.visit(visitor)
    }
}

impl HyperLayer<GRUSpec> for candle_nn::GRU {
    fn build(spec: &GRUSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let vb = spec.cell(source)?.builder("GRU")?;
        Self::new(spec.in_dim, spec.hidden_dim, spec.config, vb)
    }
}

impl Parameters for candle_nn::GRU {
    fn visit(&self, _: &mut Visitor<'_>) -> Result<()> {
        candle_core::bail!("candle_nn::GRU gives no access to its tensors: use hypernn::nn::GRU")
    }
}

/// A GRU; see [`GRU::new`].
///
/// # Errors
/// A size is zero, or the builder's tensors have another shape.
pub fn gru(in_dim: usize, hidden_dim: usize, config: GRUConfig, vb: VarBuilder<'_>) -> Result<GRU> {
    GRU::new(in_dim, hidden_dim, config, vb)
}
