//! Products of matrices on the CPU, in f32 and f64.
//!
//! They are `gemm`'s, as candle's own are. candle's `matmul` shares a product out among rayon's threads,
//! and its other operations among those of a pool of its own, which spin for a while when they are done:
//! the two get in each other's way, and so would products inside of parts that are shared out already.
//! Here all goes by candle's pool, a product writes to where its caller wants it, and nothing is filled
//! with zeros first.
//!
//! `gemm` takes pointers: they are behind functions that check what they pass on.

#![allow(unsafe_code, reason = "`gemm` takes pointers")]

use std::ops::Range;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, D, Layout, Result, bail};
use gemm::{Parallelism, gemm};

use super::pool::{self, Places};
use super::scalar::Scalar;

/// Whether products of f32 and f64 are computed here: with these features, candle's are faster.
pub(super) const DIRECT: bool = !cfg!(any(feature = "mkl", feature = "accelerate"));

/// The least of rows or columns that one thread takes: a part of few spends its time on the other side.
pub(super) const LEAST: usize = 16;

/// A matrix among values: its size, and the steps from one row and column to the next.
#[derive(Clone, Copy)]
struct Matrix<'a, T> {
    values: &'a [T],
    size: [usize; 2],
    steps: [usize; 2],
}

impl<'a, T> Matrix<'a, T> {
    /// Row-major, from the first value on.
    fn new(values: &'a [T], [rows, columns]: [usize; 2]) -> Self {
        Self { values, size: [rows, columns], steps: [columns, 1] }
    }

    /// One of the matrices `[B, rows, columns]` of a layout.
    fn of(values: &'a [T], layout: &Layout, index: usize) -> Self {
        let (dims, strides) = (layout.dims(), layout.stride());
        let start = layout.start_offset() + index * strides[0];
        let values = &values[start.min(values.len())..];
        Self { values, size: [dims[1], dims[2]], steps: [strides[1], strides[2]] }
    }

    /// The same, transposed.
    fn t(self) -> Self {
        let ([rows, columns], [row, column]) = (self.size, self.steps);
        Self { size: [columns, rows], steps: [column, row], ..self }
    }

    /// The first value behind the last that is read.
    fn end(&self) -> usize {
        let ([rows, columns], [row, column]) = (self.size, self.steps);
        if rows * columns == 0 { 0 } else { (rows - 1) * row + (columns - 1) * column + 1 }
    }

    /// Some rows.
    fn rows(self, start: usize, rows: usize) -> Self {
        let values = &self.values[(start * self.steps[0]).min(self.values.len())..];
        Self { values, size: [rows, self.size[1]], ..self }
    }
}

/// Where a product goes: the first value, and the step from one row to the next.
#[derive(Clone, Copy)]
struct Place<T> {
    first: *mut T,
    row: usize,
}

impl<T> Place<T> {
    /// Further on.
    ///
    /// # Safety
    /// The same room holds as many values more.
    unsafe fn behind(self, values: usize) -> Self {
        // SAFETY: the caller's word.
        Self { first: unsafe { self.first.add(values) }, ..self }
    }
}

// SAFETY: threads get places that do not overlap.
unsafe impl<T: Send> Send for Place<T> {}
// SAFETY: a place is read by copying it alone.
unsafe impl<T: Send> Sync for Place<T> {}

/// `scale × lhs · rhs`.
///
/// # Safety
/// At `place` lie as many rows and columns as the product has, and nobody else uses them.
unsafe fn multiply<T: Scalar>(
    place: Place<T>,
    (lhs, rhs): (Matrix<'_, T>, Matrix<'_, T>),
    scale: T,
) {
    let ([m, k], [inner, n]) = (lhs.size, rhs.size);
    assert!(k == inner, "a product of {m} × {k} and {inner} × {n} values");
    assert!(lhs.end() <= lhs.values.len() && rhs.end() <= rhs.values.len());
    let step = |step: usize| step as isize;
    // SAFETY: both sides lie in their slices, as was asserted; the place is the caller's word.
    unsafe {
        gemm(
            m,
            n,
            k,
            place.first,
            1,
            step(place.row),
            false,
            lhs.values.as_ptr(),
            step(lhs.steps[1]),
            step(lhs.steps[0]),
            rhs.values.as_ptr(),
            step(rhs.steps[1]),
            step(rhs.steps[0]),
            T::of(1.),
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// The products of as many pairs, all of one size, one after the other, row-major; shared out among
/// threads where that is much.
fn products<T: Scalar>(pairs: &[(Matrix<'_, T>, Matrix<'_, T>)]) -> Vec<T> {
    let Some((lhs, rhs)) = pairs.first() else { return Vec::new() };
    let ([m, k], n) = (lhs.size, rhs.size[1]);
    let mut out: Vec<T> = Vec::with_capacity(pairs.len() * m * n);
    let place = Place { first: out.as_mut_ptr(), row: n };
    let threads = pool::threads_for(pairs.len() * m * n * k);
    let (along, across) = (m.max(n), m >= n);
    let part = along.div_ceil(threads.div_ceil(pairs.len())).max(LEAST);
    let of_pair = |pair| (0..along).step_by(part).map(move |start| (pair, start));
    let parts: Vec<_> = (0..pairs.len()).flat_map(of_pair).collect();
    let compute = |(pair, start): (usize, usize)| {
        let ((lhs, rhs), len) = (pairs[pair], part.min(along - start));
        let fits = lhs.size == [m, k] && rhs.size == [k, n];
        assert!(fits, "{:?} · {:?} among products of {m} × {k} × {n}", lhs.size, rhs.size);
        // SAFETY: each pair has room for `m × n` values; its parts are runs of rows, or of columns, and
        // no two overlap.
        unsafe {
            let place = place.behind(pair * m * n);
            if across {
                multiply(place.behind(start * n), (lhs.rows(start, len), rhs), T::of(1.));
            } else {
                multiply(place.behind(start), (lhs, rhs.t().rows(start, len).t()), T::of(1.));
            }
        }
    };
    pool::each(parts, threads > 1, compute);
    // SAFETY: the parts cover all pairs with all rows and columns, and each was written in full.
    unsafe { out.set_len(pairs.len() * m * n) };
    out
}

/// Appends some rows of `scale × leftᵀ · right`, for `left [K, M]` and `right [K, N]`.
pub(super) fn transposed_product<T: Scalar>(
    places: &mut Places<'_, T>,
    (left, right): (&[T], &[T]),
    [k, m, n]: [usize; 3],
    rows: Range<usize>,
    scale: T,
) {
    let lhs = Matrix::new(left, [k, m]).t().rows(rows.start, rows.len());
    let rhs = Matrix::new(right, [k, n]);
    // SAFETY: the places are as many as the rows have columns, and the product fills them.
    unsafe {
        places.append(rows.len() * n, |places| {
            let place = Place { first: places.as_mut_ptr().cast(), row: n };
            multiply(place, (lhs, rhs), scale);
        });
    }
}

/// `[B, M, K]` times `[B, K, N]`, whatever their strides.
pub(super) fn matmul(
    (lhs, ll): (&CpuStorage, &Layout),
    (rhs, rl): (&CpuStorage, &Layout),
) -> Result<CpuStorage> {
    match (lhs, rhs) {
        (CpuStorage::F32(lhs), CpuStorage::F32(rhs)) if DIRECT => {
            batched((lhs, ll), (rhs, rl)).map(CpuStorage::F32)
        }
        (CpuStorage::F64(lhs), CpuStorage::F64(rhs)) if DIRECT => {
            batched((lhs, ll), (rhs, rl)).map(CpuStorage::F64)
        }
        (lhs, rhs) => {
            let ((b, m, k), n) = (ll.shape().dims3()?, rl.dim(D::Minus1)?);
            lhs.matmul(rhs, (b, m, n, k), ll, rl)
        }
    }
}

fn batched<T: Scalar>((lhs, ll): (&[T], &Layout), (rhs, rl): (&[T], &Layout)) -> Result<Vec<T>> {
    let ((batch, _, k), (others, inner, _)) = (ll.shape().dims3()?, rl.shape().dims3()?);
    if batch != others || k != inner {
        bail!("a product of {:?} and {:?}", ll.shape(), rl.shape());
    }
    let pair = |i| (Matrix::of(lhs, ll, i), Matrix::of(rhs, rl, i));
    Ok(products(&(0..batch).map(pair).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f64 / 50. - 1.).collect()
    }

    fn by_hand(lhs: Matrix<'_, f64>, rhs: Matrix<'_, f64>) -> Vec<f64> {
        let at = |matrix: Matrix<'_, f64>, i, j| {
            matrix.values[i * matrix.steps[0] + j * matrix.steps[1]]
        };
        let ([m, k], n) = (lhs.size, rhs.size[1]);
        let value = |i, j| (0..k).map(|l| at(lhs, i, l) * at(rhs, l, j)).sum();
        (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| value(i, j)).collect()
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
    }

    /// Each side as it is and transposed, from one value to more than one thread's share, along rows and
    /// along columns, with nothing to sum, and without rows.
    #[test]
    fn products_are_those_by_hand() {
        for [m, k, n] in [
            [1, 1, 1],
            [3, 5, 2],
            [1, 7, 9],
            [9, 7, 1],
            [0, 3, 4],
            [4, 3, 0],
            [3, 0, 4],
            [130, 40, 90],
            [17, 33, 700],
        ] {
            let (lhs, rhs) = (values(m * k, 1), values(k * n, 2));
            let lefts = [Matrix::new(&lhs, [m, k]), Matrix::new(&lhs, [k, m]).t()];
            let rights = [Matrix::new(&rhs, [k, n]), Matrix::new(&rhs, [n, k]).t()];
            for (lhs, rhs) in lefts.into_iter().flat_map(|lhs| rights.map(|rhs| (lhs, rhs))) {
                let expected = by_hand(lhs, rhs);
                assert_close(&products(&[(lhs, rhs)]), &expected);
                let twice = [expected.clone(), expected.clone()].concat();
                assert_close(&products(&[(lhs, rhs); 2]), &twice);
            }
        }
    }

    #[test]
    fn transposed_products_are_those_by_hand() {
        for [k, m, n] in [[1, 3, 2], [5, 7, 9], [0, 2, 3], [4, 0, 3], [3, 2, 0]] {
            let (left, right) = (values(k * m, 1), values(k * n, 2));
            let (lhs, rhs) = (Matrix::new(&left, [k, m]).t(), Matrix::new(&right, [k, n]));
            let expected: Vec<_> = by_hand(lhs, rhs).iter().map(|value| 2. * value).collect();
            let middle = m / 2;
            let parts = vec![(middle * n, 0..middle), ((m - middle) * n, middle..m)];
            let found = pool::written_parts(parts, false, |rows, places: &mut Places<'_, f64>| {
                transposed_product(places, (&left, &right), [k, m, n], rows, 2.);
            });
            assert_close(&found, &expected);
        }
    }

    #[test]
    #[should_panic(expected = "[2, 3] · [2, 3] among products of 2 × 3 × 3")]
    fn sides_that_do_not_fit_are_refused() {
        let values = values(6, 1);
        let side = Matrix::new(&values, [2, 3]);
        products(&[(side, side)]);
    }

    #[test]
    #[should_panic(expected = "lhs.end() <= lhs.values.len()")]
    fn a_side_beyond_its_values_is_refused() {
        let values = values(6, 1);
        products(&[(Matrix::new(&values, [3, 3]), Matrix::new(&values, [3, 2]))]);
    }
}
