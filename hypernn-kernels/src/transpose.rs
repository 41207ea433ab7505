//! Values that lie in rows, written as columns.

#![allow(unsafe_code, reason = "a look at each bound takes twice the time of the rest")]

use crate::error::{Result, count, ensure_len};
use crate::float::Float;
use crate::microkernel::multiples;
use crate::simd::SimdScalar;

/// The rows and columns of a tile that goes through registers.
pub(crate) const TILE: usize = 4;

/// As many columns of all rows as lie in the cache while the next rows are written beside them.
const BLOCK: usize = 64;

/// Writes a matrix `[rows, columns]`, row-major, to `out` as `[columns, rows]`.
///
/// # Errors
/// One of the slices has not `rows × columns` values.
///
/// ```
/// let mut columns = [0f32; 6];
/// hypernn_kernels::transpose(&mut columns, &[1., 2., 3., 4., 5., 6.], [2, 3])?;
/// assert_eq!(columns, [1., 4., 2., 5., 3., 6.]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn transpose<T: Float>(out: &mut [T], values: &[T], size: [usize; 2]) -> Result<()> {
    let [rows, columns] = size;
    let count = count("transpose", &size)?;
    ensure_len("transpose", "the matrix", values.len(), count)?;
    ensure_len("transpose", "the output", out.len(), count)?;
    transpose_rows(out, rows, values, &multiples(rows, columns), columns);
    Ok(())
}

/// Writes value `i` of row `r`, which begins at `starts[r]`, to `out[i × step + r]`, for each of `len`
/// values of every row.
pub(crate) fn transpose_rows<T: SimdScalar>(
    out: &mut [T],
    step: usize,
    values: &[T],
    starts: &[usize],
    len: usize,
) {
    let Some(last) = starts.iter().max().filter(|_| len > 0) else { return };
    let end = last.saturating_add(len);
    let places = (len - 1).saturating_mul(step).saturating_add(starts.len());
    assert!(end <= values.len() && places <= out.len(), "{end} of {} values", values.len());
    let (tiles, rest) = starts.as_chunks::<TILE>();
    let in_tiles = len - len % TILE;
    for first in (0..in_tiles).step_by(BLOCK) {
        for (index, starts) in tiles.iter().enumerate() {
            for column in (first..in_tiles.min(first + BLOCK)).step_by(TILE) {
                // SAFETY: the ends of the last row and of the last column were seen to be in the slices.
                unsafe {
                    let to = out.as_mut_ptr().add(column * step + index * TILE);
                    put_tile(to, step, starts.map(|start| values.as_ptr().add(start + column)));
                }
            }
        }
    }
    for (row, start) in starts.iter().enumerate() {
        let whole = if row < starts.len() - rest.len() { in_tiles } else { 0 };
        for column in whole..len {
            out[column * step + row] = values[start + column];
        }
    }
}

/// Four values of four rows.
///
/// # Safety
/// Each row has as many, and `out` holds as many columns of them, `step` apart.
#[inline(always)]
unsafe fn put_tile<T: SimdScalar>(out: *mut T, step: usize, rows: [*const T; TILE]) {
    let [a, b, c, d] = rows;
    // SAFETY: the caller's word.
    unsafe {
        let row = |row: *const T| row.cast::<[T; TILE]>().read_unaligned();
        let [e, f, g, h] = T::transpose_tile([row(a), row(b), row(c), row(d)]);
        let column = |index: usize| out.add(index * step).cast::<[T; TILE]>();
        column(0).write_unaligned(e);
        column(1).write_unaligned(f);
        column(2).write_unaligned(g);
        column(3).write_unaligned(h);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows and values around tiles and blocks, rows in any order, columns further apart than there are
    /// rows; what lies between stays.
    fn check<T: SimdScalar + From<u16> + PartialEq + std::fmt::Debug>() {
        for (rows, len) in [(0, 3), (3, 0), (1, 1), (4, 4), (7, 9), (9, 66), (16, 130)] {
            let values: Vec<T> = (1..=rows * len).map(|i| T::from(i as u16)).collect();
            let starts: Vec<_> = (0..rows).rev().map(|row| row * len).collect();
            let step = rows + 2;
            let mut out = vec![T::default(); len * step];
            transpose_rows(&mut out, step, &values, &starts, len);
            for (i, column) in out.chunks_exact(step).enumerate() {
                let expected = starts.iter().map(|start| values[start + i]);
                assert_eq!(column[..rows], expected.collect::<Vec<_>>());
                assert_eq!(column[rows..], [T::default(); 2]);
            }
        }
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        let refused = transpose::<f32>(&mut [], &[], [4, 1 << (usize::BITS - 2)]);
        assert!(matches!(refused, Err(crate::Error::Overflow { .. })), "{refused:?}");
    }

    #[test]
    fn rows_become_columns() {
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn a_matrix_of_another_size_is_an_error() {
        let message = |out: usize, values: usize| {
            let found = transpose(&mut vec![0f64; out], &vec![0.; values], [2, 3]);
            found.map_err(|error| error.to_string())
        };
        assert_eq!(message(6, 6), Ok(()));
        assert_eq!(message(6, 5), Err("transpose: the matrix has 5 values, expected 6".to_owned()));
        assert_eq!(message(7, 6), Err("transpose: the output has 7 values, expected 6".to_owned()));
    }
}
