//! What a weight generator gives: values, or what is left to compute them from.

use candle_core::{D, DType, Result, Tensor};

use crate::ops::linear::linear;

/// Generated rows, `[rows, chunk]`, or `[G, rows, chunk]` for `G` sets.
///
/// A generator that computes its values returns them: `Ok(values.into())`. One that ends in a
/// linear layer leaves that layer to the split into the target's tensors, which then needs one pass
/// less over the gradient of all values, and keeps no copy of them.
#[derive(Clone, Debug)]
pub struct GeneratorOutput {
    pub(crate) rows: Rows,
}

#[derive(Clone, Debug)]
pub(crate) enum Rows {
    /// Of any shape with that many values.
    Values(Tensor),
    /// `inputs [rows, in]`, or `[G × rows, in]`; `weight [chunk, in]`; `bias [chunk]`.
    Linear { inputs: Tensor, weight: Tensor, bias: Tensor },
    /// `shared [rows, chunk]`; `gains [G, rows]`; `bias [chunk]`.
    Scaled { shared: Tensor, gains: Tensor, bias: Tensor },
}

impl From<Tensor> for GeneratorOutput {
    fn from(values: Tensor) -> Self {
        Self { rows: Rows::Values(values) }
    }
}

impl GeneratorOutput {
    /// `inputs weightᵀ + bias`, with inputs `[rows, in]` (or `[G × rows, in]`), weight `[chunk, in]`
    /// and bias `[chunk]`.
    pub fn linear(inputs: Tensor, weight: Tensor, bias: Tensor) -> Self {
        Self { rows: Rows::Linear { inputs, weight, bias } }
    }

    /// `gains[g, n] × shared[n] + bias`, with shared rows `[rows, chunk]`, gains `[G, rows]` and bias
    /// `[chunk]`.
    pub fn scaled(shared: Tensor, gains: Tensor, bias: Tensor) -> Self {
        Self { rows: Rows::Scaled { shared, gains, bias } }
    }

    /// The values.
    ///
    /// # Errors
    /// candle's own.
    pub fn values(&self) -> Result<Tensor> {
        self.rows.values()
    }

    /// The same, cut off from its graph.
    pub(crate) fn detach(&self) -> Self {
        Self { rows: self.rows.detach() }
    }

    /// Whether the shape of the values is such.
    pub(crate) fn has_dims(&self, is_such: impl Fn(&[usize]) -> bool) -> bool {
        match &self.rows {
            Rows::Values(values) => is_such(values.dims()),
            Rows::Linear { inputs, weight, .. } => match (inputs.dims(), weight.dims()) {
                ([rows @ .., _], &[chunk, _]) => is_such(&[rows.iter().product(), chunk]),
                _ => false,
            },
            Rows::Scaled { shared, gains, .. } => match (shared.dims(), gains.dims()) {
                (&[rows, chunk], &[sets, _]) => is_such(&[sets, rows, chunk]),
                _ => false,
            },
        }
    }
}

/// What it is made of, by shape.
impl std::fmt::Display for GeneratorOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.rows {
            Rows::Values(values) => write!(f, "values of shape {:?}", values.dims()),
            Rows::Linear { inputs, weight, .. } => {
                write!(f, "a linear layer of weight {:?} over {:?}", weight.dims(), inputs.dims())
            }
            Rows::Scaled { shared, gains, .. } => {
                write!(f, "rows {:?} scaled by gains {:?}", shared.dims(), gains.dims())
            }
        }
    }
}

impl Rows {
    pub(crate) fn values(&self) -> Result<Tensor> {
        match self {
            Self::Values(values) => Ok(values.clone()),
            Self::Linear { inputs, weight, bias } => linear(inputs, weight, Some(bias)),
            Self::Scaled { shared, gains, bias } => {
                let scaled = shared.unsqueeze(0)?.broadcast_mul(&gains.unsqueeze(D::Minus1)?)?;
                scaled.broadcast_add(bias)
            }
        }
    }

    /// The tensors that it is computed from.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let all = match self {
            Self::Values(values) => [Some(values), None, None],
            Self::Linear { inputs, weight, bias } => [inputs, weight, bias].map(Some),
            Self::Scaled { shared, gains, bias } => [shared, gains, bias].map(Some),
        };
        all.into_iter().flatten()
    }

    pub(crate) fn dtype(&self) -> DType {
        let (Self::Values(first)
        | Self::Linear { inputs: first, .. }
        | Self::Scaled { shared: first, .. }) = self;
        first.dtype()
    }

    /// Whether a gradient can flow back from it.
    pub(crate) fn track_op(&self) -> bool {
        self.tensors().any(Tensor::track_op)
    }

    pub(crate) fn detach(&self) -> Self {
        let mut detached = self.clone();
        match &mut detached {
            Self::Values(values) => *values = values.detach(),
            Self::Linear { inputs: a, weight: b, bias: c }
            | Self::Scaled { shared: a, gains: b, bias: c } => {
                for tensor in [a, b, c] {
                    *tensor = tensor.detach();
                }
            }
        }
        detached
    }
}
