//! The values of tensors on the CPU as slices, for passes of our own: candle's general map is several times slower.

use std::ops::Range;

use candle_core::{DType, Layout, Result, Storage, StorageRef, Tensor, WithDType, bail};
use hypernn_kernels::{Float, Heads};

use super::kernels::kernel;

/// A number with passes of its own: a dtype of candle's for which there are kernels.
pub(super) trait Scalar: WithDType + Float {}

impl Scalar for f32 {}
impl Scalar for f64 {}

/// Looks at the values of a contiguous tensor on the CPU.
pub(super) fn values<T: Scalar, R>(tensor: &Tensor, look: impl FnOnce(&[T]) -> R) -> Result<R> {
    Ok(look(CpuSlice::new(tensor)?.values()?))
}

/// The values of a contiguous tensor on the CPU, locked so that they can be looked at.
pub(super) struct CpuSlice<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> CpuSlice<'a> {
    pub(super) fn new(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("the values are not contiguous");
        };
        Ok(Self { storage, range: start..end })
    }

    pub(super) fn values<T: WithDType>(&self) -> Result<&[T]> {
        Ok(&all_values::<T>(&self.storage)?[self.range.clone()])
    }
}

/// The rows of heads `[B, H, T, D]` on the CPU, locked so that they can be looked at.
pub(super) struct CpuHeads<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> CpuHeads<'a> {
    /// Of a tensor whose rows lie together, as [`rows_together`] gives it.
    pub(super) fn new(tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self { storage, layout }
    }

    pub(super) fn heads<T: Scalar>(&self) -> Result<Heads<'_, T>> {
        let (size, strides) = (self.layout.shape().dims4()?, self.layout.stride());
        let values = all_values::<T>(&self.storage)?;
        let values = &values[self.layout.start_offset().min(values.len())..];
        kernel(Heads::strided(values, size.into(), [strides[0], strides[1], strides[2]]))
    }
}

fn all_values<T: WithDType>(storage: &Storage) -> Result<&[T]> {
    match storage {
        Storage::Cpu(storage) => storage.as_slice(),
        _ => bail!("the values moved to another device"),
    }
}

/// A tensor whose last dimension lies side by side: the tensor itself, where that is so.
pub(super) fn rows_together(tensor: &Tensor) -> Result<Tensor> {
    let together = tensor.stride().last() == Some(&1) || tensor.dims().last() == Some(&1);
    if together { Ok(tensor.clone()) } else { tensor.contiguous() }
}

/// Whether these passes serve a tensor; elsewhere candle's own operations do.
pub(crate) fn is_direct(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && matches!(tensor.dtype(), DType::F32 | DType::F64)
}
