//! What a weight generator gives: values, or a last linear layer that is still to be computed.

use candle_core::{Result, Tensor};

use crate::ops::linear::linear;

/// Generated rows, `[rows, chunk]`.
///
/// A generator that computes its values returns them: `Ok(values.into())`. One that ends in a
/// linear layer leaves that layer to the split into the target's tensors
/// ([`linear`](Self::linear)), which then needs one pass less over the gradient of all values, and
/// keeps no copy of them.
#[derive(Clone, Debug)]
pub struct GeneratorOutput {
    pub(crate) rows: Rows,
}

#[derive(Clone, Debug)]
pub(crate) enum Rows {
    /// `[rows, chunk]`, of any shape with that many values.
    Values(Tensor),
    /// `inputs [rows, in]`, `weight [chunk, in]`, `bias [chunk]`.
    Linear { inputs: Tensor, weight: Tensor, bias: Tensor },
}

impl From<Tensor> for GeneratorOutput {
    fn from(values: Tensor) -> Self {
        Self { rows: Rows::Values(values) }
    }
}

impl GeneratorOutput {
    /// `inputs weightᵀ + bias`, with inputs `[rows, in]`, weight `[chunk, in]` and bias `[chunk]`.
    pub fn linear(inputs: Tensor, weight: Tensor, bias: Tensor) -> Self {
        Self { rows: Rows::Linear { inputs, weight, bias } }
    }

    /// The values, `[rows, chunk]`.
    ///
    /// # Errors
    /// candle's own.
    pub fn values(&self) -> Result<Tensor> {
        match &self.rows {
            Rows::Values(values) => Ok(values.clone()),
            Rows::Linear { inputs, weight, bias } => {
                let (weight, bias) = (weight.unsqueeze(0)?, bias.unsqueeze(0)?);
                linear(&inputs.unsqueeze(0)?, &weight, Some(&bias))?.squeeze(0)
            }
        }
    }

    /// The same, cut off from its graph.
    pub(crate) fn detach(&self) -> Self {
        let rows = match &self.rows {
            Rows::Values(values) => Rows::Values(values.detach()),
            Rows::Linear { inputs, weight, bias } => Rows::Linear {
                inputs: inputs.detach(),
                weight: weight.detach(),
                bias: bias.detach(),
            },
        };
        Self { rows }
    }

    /// Whether a gradient can flow back from it.
    pub(crate) fn track_op(&self) -> bool {
        match &self.rows {
            Rows::Values(values) => values.track_op(),
            Rows::Linear { inputs, weight, bias } => {
                inputs.track_op() || weight.track_op() || bias.track_op()
            }
        }
    }
}
