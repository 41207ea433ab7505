//! A tensor that a hypernetwork keeps: it is trained, or frozen and perhaps quantised.

use candle_core::{DType, Result, Tensor};

use super::{Param, Quantized};

/// A tensor of the target that is not generated.
#[derive(Clone, Debug)]
pub(crate) enum KeptTensor {
    Dense(Tensor),
    Quantized(Quantized),
}

impl From<Tensor> for KeptTensor {
    fn from(tensor: Tensor) -> Self {
        Self::Dense(tensor)
    }
}

impl KeptTensor {
    /// Its values, which are computed where they are quantised.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn dense(&self) -> Result<Tensor> {
        match self {
            Self::Dense(tensor) => Ok(tensor.clone()),
            Self::Quantized(quantized) => quantized.dequantize(),
        }
    }

    /// This tensor for a target of another dtype; what is quantised stays so.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn to_dtype(&self, dtype: DType) -> Result<Self> {
        match self {
            Self::Dense(tensor) => tensor.to_dtype(dtype).map(Self::Dense),
            Self::Quantized(quantized) => Ok(Self::Quantized(quantized.to_dtype(dtype))),
        }
    }

    pub(crate) fn detach(&self) -> Self {
        match self {
            Self::Dense(tensor) => Self::Dense(tensor.detach()),
            quantized @ Self::Quantized(_) => quantized.clone(),
        }
    }

    /// It as a parameter of a layer.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn param(&self) -> Result<Param> {
        match self {
            Self::Dense(tensor) => Ok(tensor.clone().into()),
            Self::Quantized(quantized) => Param::quantized(quantized.clone()),
        }
    }
}
