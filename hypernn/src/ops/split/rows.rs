//! What a weight generator leaves to the split: values, or its last layer.

use candle_core::{D, DType, Device, Result, Tensor};

use crate::ops::linear::linear;

/// Generated rows, as values or as what these are computed from.
#[derive(Clone, Debug)]
pub(crate) enum Rows {
    /// Generated values, of any shape with that many values.
    Values(Tensor),
    /// `inputs [rows, in]`, or `[G × rows, in]`; `weight [chunk, in]`; `bias [chunk]`.
    Linear { inputs: Tensor, weight: Tensor, bias: Tensor },
    /// `shared [rows, chunk]`; `gains [G, rows]`; `bias [chunk]`.
    Scaled { shared: Tensor, gains: Tensor, bias: Tensor },
}

impl Rows {
    pub(crate) fn values(&self) -> Result<Tensor> {
        match self {
            Self::Values(values) => Ok(values.clone()),
            Self::Linear { inputs, weight, bias } => {
                linear(inputs, &weight.clone().into(), Some(&bias.clone().into()))
            }
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

    fn first(&self) -> &Tensor {
        let (Self::Values(first)
        | Self::Linear { inputs: first, .. }
        | Self::Scaled { shared: first, .. }) = self;
        first
    }

    pub(crate) fn dtype(&self) -> DType {
        self.first().dtype()
    }

    pub(crate) fn device(&self) -> &Device {
        self.first().device()
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
