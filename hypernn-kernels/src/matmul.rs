//! Products of matrices, by the crate `gemm`, on the caller's threads.
//!
//! `gemm` takes pointers, and shares a product out among rayon's threads. Here it is behind functions that check
//! what they pass on; what is large is cut into rows or columns for an [`Executor`], a product is written to where
//! its caller wants it, and nothing is filled with zeros first.

#![allow(unsafe_code, reason = "`gemm` takes pointers")]

use std::ops::Range;

use gemm::{Parallelism, gemm};

use crate::error::{Error, Result, count, ensure_at_least};
use crate::executor::{Executor, for_products, map_parts};
use crate::float::Float;
use crate::uninit::UninitWriter;

/// The least of rows or columns that are worth a part of their own: a part of few spends its time on the other side.
pub const LEAST: usize = 16;

/// A matrix among values, with any steps from one row and one column to the next.
///
/// ```
/// use hypernn_kernels::Matrix;
///
/// let values = [1f32, 2., 3., 4., 5., 6.];
/// let matrix = Matrix::row_major(&values, [2, 3])?;
/// assert_eq!(matrix.size(), [2, 3]);
/// assert_eq!(matrix.t().size(), [3, 2]);
/// // Every second column.
/// let columns = Matrix::strided(&values, [2, 2], [3, 2])?;
/// assert_eq!(columns.size(), [2, 2]);
/// assert!(Matrix::strided(&values, [3, 2], [3, 2]).is_err());
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    values: &'a [T],
    size: [usize; 2],
    strides: [usize; 2],
}

impl<'a, T> Matrix<'a, T> {
    /// `[rows, columns]`, row-major, from the first value on; what lies behind is left out.
    ///
    /// # Errors
    /// There are fewer values than `rows × columns`.
    pub fn row_major(values: &'a [T], size: [usize; 2]) -> Result<Self> {
        Self::strided(values, size, [size[1], 1])
    }

    /// `[rows, columns]`, from the first value on, with the steps from one row and one column to the next.
    ///
    /// # Errors
    /// The last value lies behind the slice's.
    pub fn strided(values: &'a [T], size: [usize; 2], strides: [usize; 2]) -> Result<Self> {
        let end = end(size, strides).ok_or(Error::Overflow { kernel: "matmul" })?;
        ensure_at_least("matmul", "the matrix", values.len(), end)?;
        Ok(Self { values, size, strides })
    }

    /// The numbers of rows and columns.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// The transposed matrix, over the same values.
    #[must_use]
    pub fn t(self) -> Self {
        let ([rows, columns], [row, column]) = (self.size, self.strides);
        Self { size: [columns, rows], strides: [column, row], ..self }
    }

    /// These rows of the matrix, which it has.
    pub(crate) fn rows(self, rows: &Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.size[0], "{rows:?} of {:?}", self.size);
        let values = &self.values[(rows.start * self.strides[0]).min(self.values.len())..];
        Self { values, size: [rows.len(), self.size[1]], ..self }
    }

    /// These columns of the matrix, which it has.
    fn columns(self, columns: &Range<usize>) -> Self {
        self.t().rows(columns).t()
    }
}

/// The first value behind the last that is read.
fn end(size: [usize; 2], strides: [usize; 2]) -> Option<usize> {
    let ([rows, columns], [row, column]) = (size, strides);
    if rows == 0 || columns == 0 {
        return Some(0);
    }
    let (last_row, last_column) =
        ((rows - 1).checked_mul(row)?, (columns - 1).checked_mul(column)?);
    last_row.checked_add(last_column)?.checked_add(1)
}

/// Two matrices that have a product.
///
/// ```
/// use hypernn_kernels::Matrix;
/// use hypernn_kernels::matmul::Product;
///
/// let values = [1f32, 2., 3., 4., 5., 6.];
/// let matrix = Matrix::row_major(&values, [2, 3])?;
/// assert!(Product::new(matrix, matrix).is_err());
/// assert_eq!(Product::new(matrix, matrix.t())?.size(), [2, 3, 2]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Product<'a, T> {
    left: Matrix<'a, T>,
    right: Matrix<'a, T>,
}

impl<'a, T: Float> Product<'a, T> {
    /// The product of `left [M, K]` and `right [K, N]`.
    ///
    /// # Errors
    /// The left side's columns are not as many as the right side's rows.
    pub fn new(left: Matrix<'a, T>, right: Matrix<'a, T>) -> Result<Self> {
        if left.size[1] != right.size[0] {
            return Err(Error::Product { left: left.size, right: right.size });
        }
        Ok(Self { left, right })
    }

    /// The sizes of the product, `[M, K, N]`.
    pub fn size(&self) -> [usize; 3] {
        let ([m, k], [_, n]) = (self.left.size, self.right.size);
        [m, k, n]
    }

    /// Appends some rows of the product, times `scale`, by the calling thread.
    ///
    /// # Panics
    /// The product has fewer rows, or the writer fewer places.
    ///
    /// ```
    /// use hypernn_kernels::Matrix;
    /// use hypernn_kernels::executor::Sequential;
    /// use hypernn_kernels::matmul::Product;
    /// use hypernn_kernels::uninit::write_parts;
    ///
    /// let identity = Matrix::row_major(&[1f32, 0., 0., 1.], [2, 2])?;
    /// let product = Product::new(identity, Matrix::row_major(&[1., 2., 3., 4.], [2, 2])?)?;
    /// let halves = vec![(2, 0..1), (2, 1..2)];
    /// let twice = write_parts(halves, &Sequential, |rows, writer| {
    ///     product.write_rows(rows, 2., writer);
    /// })?;
    /// assert_eq!(twice, [2., 4., 6., 8.]);
    /// # Ok::<_, hypernn_kernels::Error>(())
    /// ```
    pub fn write_rows(&self, rows: Range<usize>, scale: T, writer: &mut UninitWriter<'_, T>) {
        let (left, row) = (self.left.rows(&rows), self.right.size[1]);
        // Of more than can be counted there are no places.
        let len = rows.len().saturating_mul(row);
        // SAFETY: the places are as many as the rows have columns, and the product fills them.
        unsafe {
            writer.append(len, |places| {
                let place = OutputPointer { first: places.as_mut_ptr().cast(), row };
                multiply(place, left, self.right, scale);
            });
        }
    }
}

impl<T: Float> Product<'_, T> {
    /// Writes `scale` times the product to `out`, row-major, or adds it to what is there; by the calling thread.
    ///
    /// # Panics
    /// `out` has another number of values than the product.
    ///
    /// ```
    /// use hypernn_kernels::Matrix;
    /// use hypernn_kernels::matmul::Product;
    ///
    /// let values = [1f32, 2., 3., 4.];
    /// let matrix = Matrix::row_major(&values, [2, 2])?;
    /// let (product, mut out) = (Product::new(matrix, matrix)?, [10.; 4]);
    /// product.write_to(&mut out, 1., true);
    /// assert_eq!(out, [17., 20., 25., 32.]);
    /// product.write_to(&mut out, 2., false);
    /// assert_eq!(out, [14., 20., 30., 44.]);
    /// # Ok::<_, hypernn_kernels::Error>(())
    /// ```
    pub fn write_to(&self, out: &mut [T], scale: T, add: bool) {
        let [m, _, n] = self.size();
        assert!(m.checked_mul(n) == Some(out.len()), "{} places for {m} × {n} values", out.len());
        let place = OutputPointer { first: out.as_mut_ptr(), row: n };
        // SAFETY: the places are as many as the product has values, and borrowed for it alone.
        unsafe { multiply_onto(place, self.left, self.right, scale, add) };
    }
}

/// Where a product goes: the first value, and the step from one row to the next.
#[derive(Clone, Copy)]
struct OutputPointer<T> {
    first: *mut T,
    row: usize,
}

impl<T> OutputPointer<T> {
    /// The pointer `values` values further on.
    ///
    /// # Safety
    /// The allocation holds at least `values` values behind this one.
    unsafe fn behind(self, values: usize) -> Self {
        // SAFETY: the caller's word.
        Self { first: unsafe { self.first.add(values) }, ..self }
    }
}

// SAFETY: threads get places that do not overlap.
unsafe impl<T: Send> Send for OutputPointer<T> {}
// SAFETY: a place is read by copying it alone.
unsafe impl<T: Send> Sync for OutputPointer<T> {}

/// `scale × left · right`, for sides whose inner sizes agree.
///
/// # Safety
/// At `place` lie as many rows and columns as the product has, and nobody else uses them.
unsafe fn multiply<T: Float>(
    place: OutputPointer<T>,
    left: Matrix<'_, T>,
    right: Matrix<'_, T>,
    scale: T,
) {
    // SAFETY: the caller's word.
    unsafe { multiply_onto(place, left, right, scale, false) }
}

/// `scale × left · right`, which is added to what is there where `add` says so.
///
/// # Safety
/// That of [`multiply`]; where `add` is set, all places hold values.
unsafe fn multiply_onto<T: Float>(
    place: OutputPointer<T>,
    left: Matrix<'_, T>,
    right: Matrix<'_, T>,
    scale: T,
    add: bool,
) {
    let ([m, k], [inner, n]) = (left.size, right.size);
    assert!(k == inner, "a product of {m} × {k} and {inner} × {n} values");
    let fits = |side: Matrix<'_, T>| {
        end(side.size, side.strides).is_some_and(|end| end <= side.values.len())
    };
    assert!(fits(left) && fits(right), "a side lies beyond its values");
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
            add,
            left.values.as_ptr(),
            step(left.strides[1]),
            step(left.strides[0]),
            right.values.as_ptr(),
            step(right.strides[1]),
            step(right.strides[0]),
            T::of(1.),
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// `left · right`, row-major; shared out among threads where that is much.
///
/// # Errors
/// The sides have no product, or the executor left out a part of it.
///
/// ```
/// use hypernn_kernels::Matrix;
/// use hypernn_kernels::executor::Sequential;
/// use hypernn_kernels::matmul::matmul;
///
/// let matrix = Matrix::row_major(&[1f32, 2., 3., 4.], [2, 2])?;
/// assert_eq!(matmul(matrix, matrix.t(), &Sequential)?, [5., 11., 11., 25.]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn matmul<T: Float>(
    left: Matrix<'_, T>,
    right: Matrix<'_, T>,
    executor: &dyn Executor,
) -> Result<Vec<T>> {
    matmul_batch(&[Product::new(left, right)?], executor)
}

/// Products of one size, one after the other, each row-major: `[B, M, N]`; shared out among threads where that is
/// much.
///
/// # Errors
/// The products have different sizes, or the executor left out a part of them.
///
/// ```
/// use hypernn_kernels::Matrix;
/// use hypernn_kernels::executor::Sequential;
/// use hypernn_kernels::matmul::{Product, matmul_batch};
///
/// let values = [1f32, 2., 3., 4.];
/// let product = |at: usize| {
///     let matrix = Matrix::row_major(&values[2 * at..], [1, 2])?;
///     Product::new(matrix, matrix.t())
/// };
/// assert_eq!(matmul_batch(&[product(0)?, product(1)?], &Sequential)?, [5., 25.]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn matmul_batch<T: Float>(
    products: &[Product<'_, T>],
    executor: &dyn Executor,
) -> Result<Vec<T>> {
    let Some(first) = products.first() else { return Ok(Vec::new()) };
    let [m, k, n] = first.size();
    if let Some(Product { left, right }) = products.iter().find(|other| other.size() != [m, k, n]) {
        return Err(Error::Batch { left: left.size, right: right.size, expected: [m, k, n] });
    }
    let len = count("matmul", &[products.len(), m, n])?;
    let executor = for_products(executor, len.saturating_mul(k));
    let mut out: Vec<T> = Vec::with_capacity(len);
    let place = OutputPointer { first: out.as_mut_ptr(), row: n };
    let (along, across) = (m.max(n), m >= n);
    let part = along.div_ceil(executor.threads().max(1).div_ceil(products.len())).max(LEAST);
    let of_product = |index| (0..along).step_by(part).map(move |start| (index, start));
    let parts = (0..products.len()).flat_map(of_product).collect();
    map_parts(parts, executor, |(index, start): (usize, usize)| {
        let (Product { left, right }, range) = (products[index], start..along.min(start + part));
        // SAFETY: each product has room for `m × n` values; its parts are runs of rows, or of columns, and
        // no two overlap, for no part is computed twice.
        unsafe {
            let place = place.behind(index * m * n);
            if across {
                multiply(place.behind(start * n), left.rows(&range), right, T::of(1.));
            } else {
                multiply(place.behind(start), left, right.columns(&range), T::of(1.));
            }
        }
    })?;
    // SAFETY: the parts cover all products with all rows and columns, and each was computed, or there were an
    // error.
    unsafe { out.set_len(len) };
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::executor::{ScopedThreads, Sequential};
    use crate::uninit::write_parts;

    fn values(count: usize, seed: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f64 / 50. - 1.).collect()
    }

    fn row_major(values: &[f64], size: [usize; 2]) -> Matrix<'_, f64> {
        Matrix::row_major(values, size).unwrap()
    }

    fn by_hand(left: Matrix<'_, f64>, right: Matrix<'_, f64>) -> Vec<f64> {
        let at = |matrix: Matrix<'_, f64>, i, j| {
            matrix.values[i * matrix.strides[0] + j * matrix.strides[1]]
        };
        let ([m, k], n) = (left.size, right.size[1]);
        let value = |i, j| (0..k).map(|l| at(left, i, l) * at(right, l, j)).sum();
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
        let threads = ScopedThreads::new(3);
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
            [260, 80, 90],
            [17, 99, 700],
        ] {
            let (left, right) = (values(m * k, 1), values(k * n, 2));
            let lefts = [row_major(&left, [m, k]), row_major(&left, [k, m]).t()];
            let rights = [row_major(&right, [k, n]), row_major(&right, [n, k]).t()];
            for (left, right) in
                lefts.into_iter().flat_map(|left| rights.map(|right| (left, right)))
            {
                let expected = by_hand(left, right);
                assert_close(&matmul(left, right, &threads).unwrap(), &expected);
                assert_close(&matmul(left, right, &Sequential).unwrap(), &expected);
                let twice = [expected.clone(), expected.clone()].concat();
                let product = Product::new(left, right).unwrap();
                assert_close(&matmul_batch(&[product; 2], &threads).unwrap(), &twice);
            }
        }
    }

    #[test]
    fn rows_of_transposed_products_are_those_by_hand() {
        for [k, m, n] in [[1, 3, 2], [5, 7, 9], [0, 2, 3], [4, 0, 3], [3, 2, 0]] {
            let (left, right) = (values(k * m, 1), values(k * n, 2));
            let (left, right) = (row_major(&left, [k, m]).t(), row_major(&right, [k, n]));
            let expected: Vec<_> = by_hand(left, right).iter().map(|value| 2. * value).collect();
            let (product, middle) = (Product::new(left, right).unwrap(), m / 2);
            let parts = vec![(middle * n, 0..middle), ((m - middle) * n, middle..m)];
            let found =
                write_parts(parts, &Sequential, |rows, writer: &mut UninitWriter<'_, f64>| {
                    product.write_rows(rows, 2., writer);
                });
            assert_close(&found.unwrap(), &expected);
        }
    }

    /// Written and added, with strides, with nothing to sum and without rows.
    #[test]
    fn products_are_written_and_added_to_slices() {
        for [m, k, n] in
            [[1, 1, 1], [3, 5, 2], [1, 7, 40], [40, 7, 1], [0, 3, 4], [3, 0, 4], [65, 33, 17]]
        {
            let (left, right) = (values(k * m, 1), values(n * k, 2));
            let (left, right) = (row_major(&left, [k, m]).t(), row_major(&right, [n, k]).t());
            let product = Product::new(left, right).unwrap();
            let expected = by_hand(left, right);
            let mut out = vec![f64::NAN; m * n];
            product.write_to(&mut out, 1., false);
            assert_close(&out, &expected);
            product.write_to(&mut out, 2., true);
            assert_close(&out, &expected.iter().map(|value| 3. * value).collect::<Vec<_>>());
        }
    }

    #[test]
    #[should_panic(expected = "3 places for 2 × 2 values")]
    fn places_of_another_number_are_refused() {
        let values = values(4, 1);
        let side = row_major(&values, [2, 2]);
        Product::new(side, side).unwrap().write_to(&mut [0.; 3], 1., false);
    }

    #[test]
    fn no_products_are_none() {
        assert!(matmul_batch::<f32>(&[], &Sequential).unwrap().is_empty());
    }

    fn message<T: std::fmt::Debug>(found: Result<T>) -> String {
        found.unwrap_err().to_string()
    }

    #[test]
    fn sides_that_do_not_fit_are_refused() {
        let values = values(6, 1);
        let side = row_major(&values, [2, 3]);
        let expected = "a product of 2 × 3 and 2 × 3 values";
        assert_eq!(message(matmul(side, side, &Sequential)), expected);
        let products =
            [Product::new(side, side.t()).unwrap(), Product::new(side.t(), side).unwrap()];
        let expected = "[3, 2] · [2, 3] among products of 2 × 3 × 2";
        assert_eq!(message(matmul_batch(&products, &Sequential)), expected);
    }

    #[test]
    fn a_side_beyond_its_values_is_refused() {
        let values = values(6, 1);
        let expected = "matmul: the matrix has 6 values, expected 9";
        assert_eq!(message(Matrix::row_major(&values, [3, 3])), expected);
        let expected = "matmul: the matrix has 6 values, expected 7";
        assert_eq!(message(Matrix::strided(&values, [3, 2], [2, 2])), expected);
    }

    /// Sizes whose product can't be counted: with a step of nothing, one value is a matrix of any size.
    #[test]
    fn sizes_beyond_all_memory_are_refused() {
        let values = values(1, 1);
        let expected = "matmul: more values than can be counted";
        assert_eq!(message(Matrix::strided(&values, [1 << 40; 2], [1 << 40, 1])), expected);
        let side = Matrix::strided(&values, [1 << 40, 1], [0, 0]).unwrap();
        assert_eq!(message(matmul(side, side.t(), &Sequential)), expected);
    }

    #[test]
    #[should_panic(expected = "1..3 of [2, 3]")]
    fn rows_beyond_the_product_are_refused() {
        let values = values(6, 1);
        let side = row_major(&values, [2, 3]);
        let product = Product::new(side, side.t()).unwrap();
        let write = |rows, writer: &mut UninitWriter<'_, f64>| product.write_rows(rows, 1., writer);
        let _panics = write_parts(vec![(4, 1..3)], &Sequential, write);
    }

    /// An executor that leaves out a part gives no vector whose values nobody wrote.
    #[test]
    fn a_part_that_is_left_out_is_an_error() {
        struct Lazy;
        impl Executor for Lazy {
            fn threads(&self) -> usize {
                4
            }

            fn execute(&self, _: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
                work(0..2);
            }
        }
        let values = values(130 * 130, 1);
        let side = row_major(&values, [130, 130]);
        assert_eq!(message(matmul(side, side, &Lazy)), "2 of 4 parts were computed");
    }
}
