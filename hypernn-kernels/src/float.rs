//! The numbers that kernels compute with.

use std::ops::{Add, AddAssign, Div, Mul, Sub};

use pulp::NullaryFnOnce;

use crate::simd::{SimdScalar, dispatch_pass};

/// Running sums side by side.
const LANES: usize = 16;

/// A number that kernels compute with: `f32` or `f64`.
///
/// ```
/// use hypernn_kernels::Float;
///
/// assert_eq!(f32::of(0.1), 0.1);
/// assert_eq!(<f32 as Float>::sum(&[1., 2., 3.]), 6.);
/// assert_eq!(f32::dot(&[1., 2.], &[3., 4.]), 11.);
/// ```
pub trait Float:
    SimdScalar
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
{
    /// The number of this type that is nearest to `value`.
    fn of(value: f64) -> Self;

    /// This number in f64.
    fn as_f64(self) -> f64;

    /// The square root of this number.
    fn sqrt(self) -> Self;

    /// The exponential; in f32 by instructions for vectors, to two units in the last place, and 0 below -87.3 and
    /// infinite above 88.3. What is no number stays so.
    fn exp(self) -> Self;

    /// The hyperbolic tangent; in f32 by instructions for vectors, to two units in the last place.
    fn tanh(self) -> Self;

    /// The largest value; without values, minus infinity. Where some are no numbers, it is any of the others, or none.
    #[inline(always)]
    fn largest(values: &[Self]) -> Self {
        fold_lanes(values, Self::of(f64::NEG_INFINITY), |a, b| if a > b { a } else { b })
    }

    /// The sum, in 64 running sums, for passes that are compiled for vector instructions.
    #[inline(always)]
    fn sum_in_lanes(values: &[Self]) -> Self {
        fold_lanes(values, Self::default(), |a, b| a + b)
    }

    /// The sum, in sixteen running sums: one alone waits for each addition.
    fn sum(values: &[Self]) -> Self {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut sums = [Self::default(); LANES];
        for chunk in chunks {
            sums.iter_mut().zip(chunk).for_each(|(sum, &value)| *sum += value);
        }
        sums.iter().chain(rest).fold(Self::default(), |sum, &value| sum + value)
    }

    /// The sum of products of as many values, in sixteen running sums of f64: the terms may cancel.
    fn dot(left: &[Self], right: &[Self]) -> f64 {
        dispatch_pass(Dot(left, right))
    }
}

impl Float for f32 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn as_f64(self) -> f64 {
        self.into()
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn exp(self) -> Self {
        let within = if self < LOWEST { LOWEST } else { self };
        let within = if within > HIGHEST { HIGHEST } else { within };
        // By bits, so that there are no branches: 0 where it is too low, times infinity where it is too high.
        let not_too_low = u32::from(self < LOWEST).wrapping_sub(1);
        let too_high = u32::from(self > HIGHEST) << 30;
        let factor = Self::from_bits(1_f32.to_bits() | too_high);
        Self::from_bits(exp(within).to_bits() & not_too_low) * factor
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        tanh(self)
    }
}

impl Float for f64 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn as_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn exp(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        self.tanh()
    }
}

/// Between these the exponential of an f32 is a normal number, and `exp` computes it.
const LOWEST: f32 = -87.3;
const HIGHEST: f32 = 88.3;

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

/// `eˣ` for an `x` between [`LOWEST`] and [`HIGHEST`].
#[allow(clippy::excessive_precision, reason = "coefficients as they were published")]
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Added to a number this large, a fraction is rounded away, and what remains are the last bits.
    const ROUND: f32 = 12_582_912.;
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    // ln 2 in two parts, of which the first is exact times a power.
    let rest = x - power * 0.693_359_375 + power * 2.121_944_40e-4;
    // Written out: of a loop over coefficients no vector instructions are made.
    let sum = 1.987_569_150_0e-4_f32 * rest + 1.398_199_950_7e-3;
    let sum = sum * rest + 8.333_451_907_3e-3;
    let sum = sum * rest + 4.166_579_589_4e-2;
    let sum = sum * rest + 1.666_666_545_9e-1;
    let sum = sum * rest + 5.000_000_120_1e-1;
    let sum = sum * rest * rest + rest + 1.;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    sum * f32::from_bits(exponent << 23)
}

/// Folds values side by side, in as many lanes that a loop over them is one over vectors.
#[inline(always)]
fn fold_lanes<T: Copy>(values: &[T], start: T, fold: impl Fn(T, T) -> T) -> T {
    const WIDE: usize = 64;
    let mut lanes = [start; WIDE];
    let mut chunks = values.chunks_exact(WIDE);
    for chunk in &mut chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = fold(*lane, value);
        }
    }
    let all = if values.len() < WIDE { &[][..] } else { &lanes[..] };
    all.iter().chain(chunks.remainder()).fold(start, |a, &b| fold(a, b))
}

struct Dot<'a, T>(&'a [T], &'a [T]);

impl<T: Float> NullaryFnOnce for Dot<'_, T> {
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
                .for_each(|(sum, (left, right))| *sum += left.as_f64() * right.as_f64());
        }
        let rest = left.iter().zip(right).map(|(left, right)| left.as_f64() * right.as_f64());
        sums.into_iter().chain(rest).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elementwise::testing::inputs;

    #[test]
    fn tanh_is_exact_to_two_units_in_the_last_place() {
        for (x, y) in inputs().into_iter().map(|x| (x as f32, Float::tanh(x as f32))) {
            let expected = f64::from(x).tanh();
            let unit = f64::from(f32::EPSILON) * expected.abs();
            assert!(
                (f64::from(y) - expected).abs() <= unit || y.is_nan() && x.is_nan(),
                "{x}: {y}"
            );
            assert_eq!(y.is_sign_negative(), x.is_sign_negative(), "{x}: {y}");
        }
    }

    #[test]
    fn exp_is_exact_to_two_units_in_the_last_place() {
        let steps = (-8730..=8830).map(|i| i as f32 / 100.);
        for x in steps.chain([0., -0., 1e-30, -1e-30, f32::NAN]) {
            let (y, expected) = (Float::exp(x), f64::from(x).exp());
            let unit = f64::from(f32::EPSILON) * expected;
            assert!(
                (f64::from(y) - expected).abs() <= 2. * unit || y.is_nan() && x.is_nan(),
                "{x}: {y}"
            );
        }
        for x in [-87.4, -1e30, f32::NEG_INFINITY] {
            assert_eq!(Float::exp(x), 0.);
        }
        for x in [88.4, 1e30, f32::INFINITY] {
            assert_eq!(Float::exp(x), f32::INFINITY);
        }
    }

    /// Wherever it lies; the first value's place in the lanes is no value.
    #[test]
    fn the_largest_is_found() {
        for count in [1, 2, 63, 64, 65, 130] {
            for at in 0..count {
                let mut values = vec![-3f32; count];
                values[at] = -1.;
                assert_eq!(Float::largest(&values), -1.);
            }
        }
        assert_eq!(<f32 as Float>::largest(&[]), f32::NEG_INFINITY);
    }

    /// Around a whole number of running sums.
    #[test]
    fn sums_are_those_by_hand() {
        for count in [0, 1, 15, 16, 17, 63, 64, 65, 100, 200] {
            let values: Vec<f64> = (0..count).map(f64::from).collect();
            let halves: Vec<f64> = values.iter().map(|value| value / 2.).collect();
            let squares: f64 = values.iter().map(|value| value * value).sum();
            assert_eq!(Float::sum(&values), f64::from(count * (count - 1) / 2));
            assert_eq!(Float::sum_in_lanes(&values), Float::sum(&values));
            assert_eq!(f64::dot(&values, &halves), squares / 2.);
        }
    }
}
