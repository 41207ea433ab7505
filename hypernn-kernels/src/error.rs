//! What can be wrong with what a kernel is given.

use std::fmt;

use crate::simd::CAP_VARIABLE;

/// The result of a kernel.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a kernel gives no result.
///
/// ```
/// use hypernn_kernels::{Error, Matrix};
///
/// let Err(error) = Matrix::row_major(&[1f32, 2., 3.], [2, 2]) else { unreachable!() };
/// assert!(matches!(error, Error::Length { found: 3, expected: 4, .. }));
/// assert_eq!(error.to_string(), "matmul: the matrix has 3 values, expected 4");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A slice has not as many values as the sizes say.
    Length {
        /// Which kernel says so.
        kernel: &'static str,
        /// What the slice holds.
        slice: &'static str,
        /// The number of its values.
        found: usize,
        /// How many it should have, or have at least.
        expected: usize,
    },
    /// Two matrices have no product.
    Product {
        /// Rows and columns of the left side.
        left: [usize; 2],
        /// Rows and columns of the right side.
        right: [usize; 2],
    },
    /// A pair of matrices has another size than the first of its batch.
    Batch {
        /// Rows and columns of the pair's left side.
        left: [usize; 2],
        /// Rows and columns of its right side.
        right: [usize; 2],
        /// Rows, inner size and columns of the first product.
        expected: [usize; 3],
    },
    /// A convolution that has nothing to compute, or whose windows reach beyond the padding.
    Windows {
        /// Which axis it is, or what there is none of.
        what: &'static str,
    },
    /// Sizes whose product is more than memory has addresses for.
    Overflow {
        /// Which kernel says so.
        kernel: &'static str,
    },
    /// An executor left parts of the work out.
    Parts {
        /// How many were computed.
        found: usize,
        /// How many there were.
        expected: usize,
    },
    /// Fewer values were written than there were places for.
    Values {
        /// How many were written.
        found: usize,
        /// How many places there were.
        expected: usize,
    },
    /// The environment names a cap of the instruction set that there is not
    /// ([`InstructionSet::cap`](crate::simd::InstructionSet::cap)).
    InstructionSet {
        /// What it says.
        found: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { kernel, slice, found, expected } => {
                write!(f, "{kernel}: {slice} has {found} values, expected {expected}")
            }
            Self::Product { left: [m, k], right: [inner, n] } => {
                write!(f, "a product of {m} × {k} and {inner} × {n} values")
            }
            Self::Batch { left, right, expected: [m, k, n] } => {
                write!(f, "{left:?} · {right:?} among products of {m} × {k} × {n}")
            }
            Self::Windows { what } => {
                write!(f, "convolution: {what}")
            }
            Self::Overflow { kernel } => {
                write!(f, "{kernel}: more values than can be counted")
            }
            Self::Parts { found, expected } => {
                write!(f, "{found} of {expected} parts were computed")
            }
            Self::Values { found, expected } => {
                write!(f, "{found} of {expected} values were written")
            }
            Self::InstructionSet { found } => {
                write!(f, "{CAP_VARIABLE} is {found:?}, expected scalar, avx2 or avx512")
            }
        }
    }
}

impl std::error::Error for Error {}

/// An error where a slice has another number of values than expected.
pub(crate) fn ensure_len(
    kernel: &'static str,
    slice: &'static str,
    found: usize,
    expected: usize,
) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Length { kernel, slice, found, expected })
}

/// An error where a slice has fewer values than expected.
pub(crate) fn ensure_at_least(
    kernel: &'static str,
    slice: &'static str,
    found: usize,
    expected: usize,
) -> Result<()> {
    ensure_len(kernel, slice, found.min(expected), expected)
}

/// The number of values of these sizes.
pub(crate) fn count(kernel: &'static str, sizes: &[usize]) -> Result<usize> {
    let product = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    product.ok_or(Error::Overflow { kernel })
}
