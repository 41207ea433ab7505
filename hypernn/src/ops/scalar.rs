//! Passes over values on the CPU, written directly: candle's general map is several times slower.

use std::ops::{Add, AddAssign, Mul, Range};

use candle_core::{DType, Result, Storage, StorageRef, Tensor, WithDType, bail};
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

    /// The hyperbolic tangent.
    fn tanh(self) -> Self;

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

    #[inline(always)]
    fn tanh(self) -> Self {
        tanh(self)
    }
}

impl Scalar for f64 {
    fn of(value: f64) -> Self {
        value
    }

    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        self.tanh()
    }
}

/// Without branches or calls, so that it is compiled to vector instructions: by a polynomial near zero, by
/// `1 - 2 / (e²ˣ + 1)` elsewhere. The polynomials are those of Moshier's Cephes library (`tanhf`, `expf`).
#[allow(clippy::excessive_precision, reason = "coefficients as they were published")]
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let z = size * size;
    let near = -5.704_988_727_45e-3_f32;
    let near =
        [2.063_908_879_54e-2, -5.373_971_555_31e-2, 1.333_144_220_36e-1, -3.333_328_194_22e-1]
            .iter()
            .fold(near, |sum, &coefficient| sum * z + coefficient);
    let near = near * z * size + size;
    // Beyond, it is 1; what is no number stays so.
    let far = if size > 9.1 { 9.1 } else { size };
    let far = 1. - 2. / (exp(2. * far) + 1.);
    (if size < 0.625 { near } else { far }).copysign(x)
}

/// `eˣ` for an `x` between 0 and 80.
#[allow(clippy::excessive_precision, reason = "coefficients as they were published")]
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Added to a number this large, a fraction is rounded away, and what remains are the last bits.
    const ROUND: f32 = 12_582_912.;
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    // ln 2 in two parts, of which the first is exact times a power.
    let rest = x - power * 0.693_359_375 + power * 2.121_944_40e-4;
    let sum = 1.987_569_150_0e-4_f32;
    let sum = [
        1.398_199_950_7e-3,
        8.333_451_907_3e-3,
        4.166_579_589_4e-2,
        1.666_666_545_9e-1,
        5.000_000_120_1e-1,
    ]
    .iter()
    .fold(sum, |sum, &coefficient| sum * rest + coefficient);
    let sum = sum * rest * rest + rest + 1.;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    sum * f32::from_bits(exponent << 23)
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
    Ok(look(Held::new(tensor)?.values()?))
}

/// A contiguous tensor on the CPU, held so that its values can be looked at.
pub(super) struct Held<'a> {
    storage: StorageRef<'a>,
    place: Range<usize>,
}

impl<'a> Held<'a> {
    pub(super) fn new(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("the values are not contiguous");
        };
        Ok(Self { storage, place: start..end })
    }

    pub(super) fn values<T: Scalar>(&self) -> Result<&[T]> {
        let Storage::Cpu(storage) = &*self.storage else {
            bail!("the values moved to another device");
        };
        Ok(&storage.as_slice::<T>()?[self.place.clone()])
    }
}

/// Whether these passes serve a tensor; elsewhere candle's own operations do.
pub(crate) fn is_direct(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && matches!(tensor.dtype(), DType::F32 | DType::F64)
}
