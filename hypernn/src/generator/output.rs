//! What a weight generator gives: values, or what is left to compute them from.

use candle_core::{Result, Tensor};

use crate::ops::split::Rows;

/// Generated rows, `[rows, chunk]`, or `[G, rows, chunk]` for `G` sets.
///
/// A generator that computes its values returns them: `Ok(values.into())`. One that ends in a
/// linear layer leaves that layer to the split into the target's tensors, which then needs one pass
/// less over the gradient of all values, and keeps no copy of them.
#[derive(Clone, Debug)]
pub struct GeneratorOutput {
    pub(crate) rows: Rows,
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

/// Writes what the output is made of, by shape.
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
