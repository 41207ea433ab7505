//! Vector instructions: what a register holds, and passes that are compiled for more than one set of them.

#![allow(unsafe_code, reason = "instructions of one processor are unsafe functions")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps};
use std::array;

use pulp::bytemuck::cast_slice;
#[cfg(target_arch = "x86_64")]
use pulp::cast;
use pulp::{NullaryFnOnce, Simd};

mod instruction_set;

pub(crate) use instruction_set::arch;
pub use instruction_set::{CAP_VARIABLE, InstructionSet};

/// A number of which a register holds several.
pub trait SimdScalar: Copy + Default + Send + Sync + 'static {
    /// The values that one register holds.
    type Register<S: Simd>: Copy;

    /// How many values one register holds.
    #[inline(always)]
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::Register<S>>() / size_of::<Self>()
    }

    /// The value in each place of a register.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Register<S>;

    /// `left × right + sum`, in one operation where the machine has it.
    fn multiply_add<S: Simd>(
        simd: S,
        left: Self::Register<S>,
        right: Self::Register<S>,
        sum: Self::Register<S>,
    ) -> Self::Register<S>;

    /// The values as registers, as many as they fill.
    fn as_registers<S: Simd>(values: &[Self]) -> &[Self::Register<S>];

    /// The values as registers to write to, as many as they fill.
    fn as_registers_mut<S: Simd>(values: &mut [Self]) -> &mut [Self::Register<S>];

    /// The values of registers.
    fn as_scalars<S: Simd>(registers: &[Self::Register<S>]) -> &[Self];

    /// The columns of four rows.
    fn transpose_tile(rows: [[Self; 4]; 4]) -> [[Self; 4]; 4] {
        array::from_fn(|column| rows.map(|row| row[column]))
    }
}

macro_rules! simd_scalar {
    ($number:ty, $register:ident, $splat:ident, $mul_add:ident, $view:ident, $view_mut:ident$(, $transpose_tile:item)?) => {
        impl SimdScalar for $number {
            type Register<S: Simd> = S::$register;

            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$register {
                simd.$splat(value)
            }

            #[inline(always)]
            fn multiply_add<S: Simd>(
                simd: S,
                left: S::$register,
                right: S::$register,
                sum: S::$register,
            ) -> S::$register {
                simd.$mul_add(left, right, sum)
            }

            #[inline(always)]
            fn as_registers<S: Simd>(values: &[Self]) -> &[S::$register] {
                S::$view(values).0
            }

            #[inline(always)]
            fn as_registers_mut<S: Simd>(values: &mut [Self]) -> &mut [S::$register] {
                S::$view_mut(values).0
            }

            #[inline(always)]
            fn as_scalars<S: Simd>(registers: &[S::$register]) -> &[Self] {
                cast_slice(registers)
            }

            $($transpose_tile)?
        }
    };
}

simd_scalar!(
    f32,
    f32s,
    splat_f32s,
    mul_add_e_f32s,
    as_simd_f32s,
    as_mut_simd_f32s,
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn transpose_tile(rows: [[Self; 4]; 4]) -> [[Self; 4]; 4] {
        let [a, b, c, d] = rows;
        let (a, b, c, d) = (cast(a), cast(b), cast(c), cast(d));
        // SAFETY: every x86-64 has SSE.
        unsafe {
            let (low, high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
            let (lower, higher) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
            [
                cast(_mm_movelh_ps(low, lower)),
                cast(_mm_movehl_ps(lower, low)),
                cast(_mm_movelh_ps(high, higher)),
                cast(_mm_movehl_ps(higher, high)),
            ]
        }
    }
);
simd_scalar!(f64, f64s, splat_f64s, mul_add_e_f64s, as_simd_f64s, as_mut_simd_f64s);

/// Runs a pass over values that is compiled for AVX2 and for every processor, whichever this machine has. No
/// product and sum become one operation, so the numbers are the same on both.
///
/// The pass is a closure of a few lines that the compiler inlines.
///
/// ```
/// let values = [1f32, 2., 3.];
/// let doubled: Vec<_> = hypernn_kernels::simd::dispatch(|| values.iter().map(|x| 2. * x).collect());
/// assert_eq!(doubled, [2., 4., 6.]);
/// ```
#[inline(always)]
pub fn dispatch<R>(pass: impl FnOnce() -> R) -> R {
    dispatch_pass(pass)
}

/// Runs a longer pass, compiled for AVX2 where the processor has it. The compiler would not inline such a pass
/// into both ways of [`dispatch`], and would then compile it once: it is a type whose `call` is
/// `#[inline(always)]`.
#[inline(always)]
pub(crate) fn dispatch_pass<P: NullaryFnOnce>(pass: P) -> P::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = instruction_set::avx2() {
        return avx2.vectorize(pass);
    }
    pass.call()
}
