//! Passes over values on the CPU, written directly: candle's general map is several times slower.

use std::ops::{Add, AddAssign, Mul};

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, WithDType, bail};

use super::Segment;

/// A number with passes of its own.
pub(super) trait Scalar:
    WithDType + Default + Add<Output = Self> + Mul<Output = Self> + AddAssign
{
    /// The nearest value.
    fn of(value: f64) -> Self;

    /// `out = scale × values`.
    fn scale(out: &mut [Self], values: &[Self], scale: f64) {
        let scale = Self::of(scale);
        out.iter_mut().zip(values).for_each(|(out, &value)| *out = value * scale);
    }

    /// `shift + scale × values`, appended to `out`.
    fn affine(out: &mut Vec<Self>, values: &[Self], scale: f64, shift: f64) {
        let (scale, shift) = (Self::of(scale), Self::of(shift));
        out.extend(values.iter().map(|&value| value * scale + shift));
    }
}

impl Scalar for f32 {
    fn of(value: f64) -> Self {
        value as Self
    }
}

impl Scalar for f64 {
    fn of(value: f64) -> Self {
        value
    }
}

/// Looks at the values of a contiguous tensor on the CPU.
pub(super) fn values<T: Scalar, R>(tensor: &Tensor, look: impl FnOnce(&[T]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        bail!("split: the values moved to another device");
    };
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("split: the values are not contiguous");
    };
    Ok(look(&storage.as_slice::<T>()?[start..end]))
}

/// A segment's values in the window `[len]` or `[sets, len]`; `None` for a dtype without passes of
/// its own.
pub(super) fn cut(values: &CpuStorage, window: &Layout, segment: &Segment) -> Option<CpuStorage> {
    match values {
        CpuStorage::F32(values) => Some(CpuStorage::F32(cut_values(values, window, segment))),
        CpuStorage::F64(values) => Some(CpuStorage::F64(cut_values(values, window, segment))),
        _ => None,
    }
}

fn cut_values<T: Scalar>(values: &[T], window: &Layout, segment: &Segment) -> Vec<T> {
    let len = segment.len();
    let mut out = Vec::with_capacity(window.shape().elem_count());
    // A window of one dimension is one row.
    let (sets, stride) = match (window.dims(), window.stride()) {
        (&[sets, _], &[stride, _]) => (sets, stride),
        _ => (1, 0),
    };
    for set in 0..sets {
        let start = window.start_offset() + set * stride;
        T::affine(&mut out, &values[start..start + len], segment.scale, segment.shift);
    }
    out
}
