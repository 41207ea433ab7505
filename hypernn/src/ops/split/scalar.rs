//! Passes over values on the CPU, written directly.

use candle_core::{CpuStorage, Layout, WithDType};

use super::Segment;

/// A number with passes of its own; candle's general map is several times slower here.
pub(super) trait Scalar: WithDType + Default {
    /// `out = scale × values`.
    fn scale(out: &mut [Self], values: &[Self], scale: f64);

    /// `shift + scale × values`, appended to `out`.
    fn affine(out: &mut Vec<Self>, values: &[Self], scale: f64, shift: f64);
}

macro_rules! scalar {
    ($number:ty) => {
        impl Scalar for $number {
            fn scale(out: &mut [Self], values: &[Self], scale: f64) {
                let scale = scale as $number;
                out.iter_mut().zip(values).for_each(|(out, value)| *out = value * scale);
            }

            fn affine(out: &mut Vec<Self>, values: &[Self], scale: f64, shift: f64) {
                let (scale, shift) = (scale as $number, shift as $number);
                out.extend(values.iter().map(|value| value * scale + shift));
            }
        }
    };
}

scalar!(f32);
scalar!(f64);

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
