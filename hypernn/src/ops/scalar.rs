//! Passes over values on the CPU, written directly: candle's general map is several times slower.

use std::ops::{Add, AddAssign, Mul};

use candle_core::{DType, Result, Storage, Tensor, WithDType, bail};
use pulp::NullaryFnOnce;
#[cfg(target_arch = "x86_64")]
use pulp::x86::V3;

use super::panels::Lanes;

/// Running sums side by side.
const LANES: usize = 16;

/// A number with passes of its own.
pub(super) trait Scalar:
    WithDType + Lanes + Default + Add<Output = Self> + Mul<Output = Self> + AddAssign
{
    /// The nearest value.
    fn of(value: f64) -> Self;

    /// The square root.
    fn sqrt(self) -> Self;

    /// `out = scale × values`.
    fn scale(out: &mut [Self], values: &[Self], scale: f64) {
        let scale = Self::of(scale);
        wide(|| out.iter_mut().zip(values).for_each(|(out, &value)| *out = value * scale));
    }

    /// The sum, in several running sums: one alone waits for each addition.
    fn sum(values: &[Self]) -> Self {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut sums = [Self::default(); LANES];
        for chunk in chunks {
            sums.iter_mut().zip(chunk).for_each(|(sum, &value)| *sum += value);
        }
        sums.iter().chain(rest).fold(Self::default(), |sum, &value| sum + value)
    }

    /// The sum of products of as many values, likewise, in f64: the terms may cancel.
    fn dot(left: &[Self], right: &[Self]) -> f64 {
        wide(Dot(left, right))
    }
}

impl Scalar for f32 {
    fn of(value: f64) -> Self {
        value as Self
    }

    fn sqrt(self) -> Self {
        self.sqrt()
    }
}

impl Scalar for f64 {
    fn of(value: f64) -> Self {
        value
    }

    fn sqrt(self) -> Self {
        self.sqrt()
    }
}

/// Runs a pass over values that is compiled for AVX2 and for every processor, whichever this machine
/// has. No product and sum become one operation, so that the numbers are the same on both.
///
/// A pass of a few lines may be a closure. A longer one, which the compiler would not inline twice, and
/// then compiles once, is a type whose `call` is `#[inline(always)]`.
#[inline(always)]
pub(super) fn wide<P: NullaryFnOnce>(pass: P) -> P::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = V3::try_new() {
        return avx2.vectorize(pass);
    }
    pass.call()
}

struct Dot<'a, T>(&'a [T], &'a [T]);

impl<T: Scalar> NullaryFnOnce for Dot<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let ((lefts, left), (rights, right)) =
            (self.0.as_chunks::<LANES>(), self.1.as_chunks::<LANES>());
        let mut sums = [0.; LANES];
        for (left, right) in lefts.iter().zip(rights) {
            let pairs = left.iter().zip(right);
            sums.iter_mut()
                .zip(pairs)
                .for_each(|(sum, (left, right))| *sum += left.to_f64() * right.to_f64());
        }
        let rest = left.iter().zip(right).map(|(left, right)| left.to_f64() * right.to_f64());
        sums.into_iter().chain(rest).sum()
    }
}

/// Looks at the values of a contiguous tensor on the CPU.
pub(super) fn values<T: Scalar, R>(tensor: &Tensor, look: impl FnOnce(&[T]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        bail!("the values moved to another device");
    };
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("the values are not contiguous");
    };
    Ok(look(&storage.as_slice::<T>()?[start..end]))
}

/// Whether these passes serve a tensor; elsewhere candle's own operations do.
pub(crate) fn is_direct(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && matches!(tensor.dtype(), DType::F32 | DType::F64)
}
