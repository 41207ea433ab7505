//! A tensor in blocks of few bits, as its file has it.

use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Result, Tensor};

/// A frozen tensor that stays quantised in memory, and what it is computed with.
#[derive(Clone)]
pub(crate) struct Quantized {
    blocks: Arc<QTensor>,
    dtype: DType,
    device: Device,
}

impl std::fmt::Debug for Quantized {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} as {:?}", self.blocks, self.dtype)
    }
}

impl Quantized {
    /// Blocks whose values are taken in this dtype.
    pub(crate) fn new(blocks: QTensor, dtype: DType) -> Self {
        let device = blocks.device();
        Self { blocks: Arc::new(blocks), dtype, device }
    }

    pub(crate) fn blocks(&self) -> &QTensor {
        &self.blocks
    }

    pub(crate) fn dims(&self) -> &[usize] {
        self.blocks.shape().dims()
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// The same blocks, taken in another dtype.
    pub(crate) fn to_dtype(&self, dtype: DType) -> Self {
        Self { dtype, ..self.clone() }
    }

    /// Whether both are the same blocks in memory.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.blocks, &other.blocks)
    }

    /// The values.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn dequantize(&self) -> Result<Tensor> {
        self.blocks.dequantize(&self.device)?.to_dtype(self.dtype)
    }
}

/// A tensor of these dimensions, this dtype and device whose values are one number that is none.
///
/// # Errors
/// candle's own.
pub(super) fn outline(dims: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    Tensor::new(f32::NAN, device)?.to_dtype(dtype)?.broadcast_as(dims)
}
