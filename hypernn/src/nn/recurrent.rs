//! What the recurrent layers share.

use std::collections::HashMap;

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::affine::Affine;
use crate::check::{ensure_same_dtype, product, too_many};
use crate::flow::SampleShape;
use crate::info::LayerInfo;
use crate::memory::ensure_room;
use crate::ops::linear::linear;
use crate::ops::split::steps;
use crate::param::{Param, sets};
use crate::structure::layer::Visitor;
use crate::structure::source::{ParamKind, ParamSource, ParamSpec};

/// The weights of a recurrent layer; `gates` blocks of `hidden_dim` rows.
#[derive(Clone, Debug)]
pub(super) struct RecurrentCell {
    pub(super) layer: &'static str,
    /// What follows `weight_ih` and the like in names.
    pub(super) suffix: String,
    pub(super) inputs: Affine,
    pub(super) state: Affine,
    pub(super) hidden_dim: usize,
}

/// Sizes and initialisation of a recurrent layer.
pub(super) struct CellSpec {
    pub(super) layer: &'static str,
    pub(super) suffix: String,
    pub(super) in_dim: usize,
    pub(super) hidden_dim: usize,
    pub(super) gates: usize,
    pub(super) weights: [Init; 2],
    pub(super) biases: [Option<Init>; 2],
}

/// What a recurrent layer's spec says of itself; none of its tensors is named `weight`.
pub(super) const fn info(
    layer: &'static str,
    gates: usize,
    in_dim: usize,
    hidden_dim: usize,
    biases: [bool; 2],
) -> LayerInfo {
    let rows = product(&[gates, hidden_dim]);
    let mut info = LayerInfo::new(layer)
        .size("in_dim", in_dim)
        .size("hidden_dim", hidden_dim)
        .checked(too_many(layer, &[gates, hidden_dim, in_dim]))
        .checked(too_many(layer, &[gates, hidden_dim, hidden_dim]))
        .takes(SampleShape::last(in_dim))
        .tensor("weight_ih", &[rows, in_dim])
        .tensor("weight_hh", &[rows, hidden_dim]);
    if biases[0] {
        info = info.tensor("bias_ih", &[rows]);
    }
    if biases[1] {
        info = info.tensor("bias_hh", &[rows]);
    }
    info
}

/// candle's own, which panics on CUDA for a part of an empty batch.
pub(super) fn sigmoid(xs: &Tensor) -> Result<Tensor> {
    if xs.elem_count() == 0 { Ok(xs.clone()) } else { candle_nn::ops::sigmoid(xs) }
}

/// The state after each step of a sequence `[B, T, in]`.
pub(super) fn seq<S: Clone>(
    xs: &Tensor,
    init: &S,
    step: impl Fn(&Tensor, &S) -> Result<S>,
) -> Result<Vec<S>> {
    xs.dims3()?;
    let mut states: Vec<S> = Vec::with_capacity(xs.dim(1)?);
    for xs in steps(xs)? {
        states.push(step(&xs, states.last().unwrap_or(init))?);
    }
    Ok(states)
}

impl CellSpec {
    pub(super) fn build(self, source: &mut dyn ParamSource) -> Result<RecurrentCell> {
        let Self { layer, suffix, in_dim, hidden_dim, gates, weights, biases } = self;
        let rows = gates * hidden_dim;
        let mut param = |name: &str, dims: &[usize], kind, init| {
            let name = &format!("{name}{suffix}");
            // Each step of a sequence takes them.
            source.param(&ParamSpec { name, dims, kind, init })?.into_one_weight()?.held()
        };
        let w_ih = param("weight_ih", &[rows, in_dim], ParamKind::Weight, weights[0])?;
        let w_hh = param("weight_hh", &[rows, hidden_dim], ParamKind::Weight, weights[1])?;
        let mut bias = |name, init: Option<Init>| {
            init.map(|init| param(name, &[rows], ParamKind::Bias, init)).transpose()
        };
        let (b_ih, b_hh) = (bias("bias_ih", biases[0])?, bias("bias_hh", biases[1])?);
        let inputs = Affine { weight: w_ih, bias: b_ih };
        let state = Affine { weight: w_hh, bias: b_hh };
        Ok(RecurrentCell { layer, suffix, inputs, state, hidden_dim })
    }
}

impl RecurrentCell {
    /// Checks the shapes of tensors that no spec has asked for.
    ///
    /// # Errors
    /// The cell's tensors do not fit together.
    pub(super) fn checked(self, gates: usize) -> Result<Self> {
        sets::among(self.layer, self.ranked())?;
        let rows = gates * self.hidden_dim;
        for (name, param, rank) in self.named() {
            let expected = if name == "weight_hh" { &[rows, self.hidden_dim][..] } else { &[rows] };
            let shape = &param.dims()[param.rank() - rank..];
            if !shape.starts_with(expected) {
                crate::error::bail!(
                    shape,
                    "{}: {name} has shape {:?}, expected {rows} rows for {gates} gates of width {}",
                    self.layer,
                    param.dims(),
                    self.hidden_dim
                );
            }
        }
        Ok(self)
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &Param, usize)> {
        let weights = [("weight_ih", &self.inputs.weight, 2), ("weight_hh", &self.state.weight, 2)];
        let biases = [("bias_ih", &self.inputs.bias), ("bias_hh", &self.state.bias)];
        let biases = biases.into_iter().filter_map(|(name, b)| b.as_ref().map(|b| (name, b, 1)));
        weights.into_iter().chain(biases)
    }

    fn ranked(&self) -> impl Iterator<Item = (&str, &Tensor, usize)> {
        self.named().map(|(name, param, rank)| (name, param.values(), rank))
    }

    pub(super) fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.named().try_for_each(|(name, param, _)| {
            visitor(&format!("{name}{}", self.suffix), param.visited())
        })
    }

    /// Zeros `[B, hidden]`.
    pub(super) fn zeros(&self, batch: usize) -> Result<Tensor> {
        let (dims, weight) = ([batch, self.hidden_dim], self.inputs.weight());
        let state = || format!("the state of {}", self.layer);
        ensure_room(state, &dims, weight.dtype(), weight.device())?;
        Tensor::zeros(&dims[..], weight.dtype(), weight.device())
    }

    /// What the input `[B, in]` and the state `[B, hidden]` give to the gates, each
    /// `[B, gates × hidden]`.
    pub(super) fn gates(&self, xs: &Tensor, h: &Tensor) -> Result<(Tensor, Tensor)> {
        let sets = sets::among(self.layer, self.ranked())?;
        let from_input = self.project("the input", xs, &self.inputs, sets)?;
        Ok((from_input, self.project("the state", h, &self.state, sets)?))
    }

    fn project(&self, what: &str, xs: &Tensor, params: &Affine, sets: usize) -> Result<Tensor> {
        let weight = params.weight.repeated(2, sets)?;
        let width = weight.values().dim(D::Minus1)?;
        let batch = match *xs.dims() {
            [batch, found] if found == width => batch,
            _ => crate::error::bail!(
                shape,
                "{}: {what} has shape {:?}, expected [batch, {width}]",
                self.layer,
                xs.dims()
            ),
        };
        ensure_same_dtype(self.layer, what, xs.dtype(), "the weight", weight.dtype())?;
        sets::rows_per_set(self.layer, batch, sets)?;
        let bias = params.bias.as_ref().map(|bias| bias.repeated(1, sets)).transpose()?;
        linear(xs, &weight, bias.as_ref())
    }

    /// The tensors as a builder, the only way into candle's own layers.
    ///
    /// # Errors
    /// The weights come in several sets, which candle's own layers can't hold.
    pub(super) fn builder(&self, named: &str) -> Result<VarBuilder<'static>> {
        if self.inputs.weight().rank() > 2 {
            crate::error::bail!(
                shape,
                "candle_nn::{named} holds one set of weights, found shape {:?}: use hypernn::nn::{named}",
                self.inputs.weight().dims()
            );
        }
        let mut tensors = HashMap::new();
        for (name, param, _) in self.named() {
            tensors.insert(format!("{name}{}", self.suffix), param.collected()?);
        }
        Ok(VarBuilder::from_tensors(
            tensors,
            self.inputs.weight().dtype(),
            self.inputs.weight().device(),
        ))
    }
}
