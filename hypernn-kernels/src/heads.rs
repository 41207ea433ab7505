//! The rows of several heads.

use crate::error::{Error, Result, ensure_at_least};
use crate::matmul::Matrix;

/// Values `[batch, heads, rows, width]` with any steps between rows, whose own values lie side by side.
///
/// ```
/// use hypernn_kernels::Heads;
///
/// // One sequence of two positions, each with two heads of one value.
/// let values = [1f32, 10., 2., 20.];
/// let heads = Heads::strided(&values, [1, 2, 2, 1], [4, 1, 2])?;
/// assert_eq!(heads.row(0, 1, 0), [10.]);
/// assert_eq!(heads.row(0, 1, 1), [20.]);
/// assert!(Heads::strided(&values, [1, 2, 3, 1], [4, 1, 2]).is_err());
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a, T> {
    values: &'a [T],
    size: [usize; 4],
    strides: [usize; 3],
}

impl<'a, T> Heads<'a, T> {
    /// From the first value on, with the steps from one element of the batch, one head and one row to the next.
    ///
    /// # Errors
    /// The last row ends behind the slice.
    pub fn strided(values: &'a [T], size: [usize; 4], strides: [usize; 3]) -> Result<Self> {
        let end = end(size, strides).ok_or(Error::Overflow { kernel: "heads" })?;
        ensure_at_least("heads", "the tensor", values.len(), end)?;
        Ok(Self { values, size, strides })
    }

    /// Row-major, one row behind the other.
    ///
    /// # Errors
    /// There are fewer values.
    pub fn row_major(values: &'a [T], size: [usize; 4]) -> Result<Self> {
        let [_, heads, rows, width] = size;
        let of_head = crate::error::count("heads", &[rows, width])?;
        let of_batch = crate::error::count("heads", &[heads, of_head])?;
        Self::strided(values, size, [of_batch, of_head, width])
    }

    /// The numbers of the batch, of heads, of rows and of values in a row.
    pub fn size(&self) -> [usize; 4] {
        self.size
    }

    /// The values of a row.
    ///
    /// # Panics
    /// There is no such row.
    #[inline]
    pub fn row(&self, batch: usize, head: usize, row: usize) -> &'a [T] {
        let [_, _, rows, width] = self.size;
        assert!(row < rows, "row {row} of {rows}");
        &self.of_head(batch, head)[row * self.strides[2]..][..width]
    }

    /// The rows of a head, `[rows, width]`.
    ///
    /// # Errors
    /// None, for a head that there is.
    pub(crate) fn matrix(&self, batch: usize, head: usize) -> Result<Matrix<'a, T>> {
        let [_, _, rows, width] = self.size;
        Matrix::strided(self.of_head(batch, head), [rows, width], [self.strides[2], 1])
    }

    /// The heads of single rows as the rows of `groups` heads.
    pub(crate) fn heads_as_rows(self, groups: usize) -> Self {
        let ([batch, heads, _, width], [of_batch, of_head, _]) = (self.size, self.strides);
        let rows = heads / groups.max(1);
        let size = [batch, groups, rows, width];
        Self { size, strides: [of_batch, of_head * rows, of_head], ..self }
    }

    fn of_head(&self, batch: usize, head: usize) -> &'a [T] {
        let [batches, heads, ..] = self.size;
        assert!(batch < batches && head < heads, "head {batch}, {head} of {batches} × {heads}");
        let start = batch * self.strides[0] + head * self.strides[1];
        &self.values[start.min(self.values.len())..]
    }
}

/// The first value behind the last row.
fn end(size: [usize; 4], strides: [usize; 3]) -> Option<usize> {
    if size.contains(&0) {
        return Some(0);
    }
    let steps = size.iter().zip(strides);
    let last = steps.map(|(size, stride)| (size - 1).checked_mul(stride));
    last.sum::<Option<usize>>()?.checked_add(size[3])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_the_values_are_refused() {
        let values = [0f32; 11];
        let message =
            |size, strides| Heads::strided(&values, size, strides).unwrap_err().to_string();
        let expected = "heads: the tensor has 11 values, expected 12";
        assert_eq!(message([1, 2, 3, 2], [12, 6, 2]), expected);
        assert_eq!(message([2, 1, 1, 2], [10, 0, 0]), expected);
        let expected = "heads: more values than can be counted";
        assert_eq!(message([usize::MAX, 1, 1, 1], [2, 0, 0]), expected);
        assert!(Heads::row_major(&values, [0, 9, 9, 9]).is_ok());
    }

    /// As single queries are that share a head of keys, also where heads lie apart.
    #[test]
    fn heads_of_one_row_are_rows_of_fewer_heads() {
        let values: Vec<_> = (0..24u8).map(f32::from).collect();
        let heads = Heads::strided(&values, [2, 4, 1, 2], [12, 3, 99]).unwrap();
        let rows = heads.heads_as_rows(2);
        assert_eq!(rows.size(), [2, 2, 2, 2]);
        for (batch, head) in (0..8).map(|at| (at / 4, at % 4)) {
            assert_eq!(rows.row(batch, head / 2, head % 2), heads.row(batch, head, 0));
        }
    }

    #[test]
    #[should_panic(expected = "row 1 of 1")]
    fn a_row_that_is_not_there_is_refused() {
        Heads::row_major(&[1f32, 2.], [2, 1, 1, 1]).unwrap().row(0, 0, 1);
    }
}
