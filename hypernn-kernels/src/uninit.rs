//! Vectors that are written part by part, by several threads where they are long, and not filled with zeros first.

#![allow(unsafe_code, reason = "values are written to memory that holds none yet")]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::executor::{Executor, for_values, map_parts};

/// Vectors with so many values each: `write` is given a writer for each vector, and gives back all of them full,
/// in any order and split in any way.
///
/// # Errors
/// That of `write`; or the writers it gives back have fewer values in all.
///
/// ```
/// use hypernn_kernels::uninit::write_vectors;
///
/// let vectors = write_vectors(&[2, 1], |mut writers| {
///     writers[0].extend_from_slice(&[1, 2]);
///     writers[1].extend([3].into_iter());
///     Ok(writers)
/// })?;
/// assert_eq!(vectors, [vec![1, 2], vec![3]]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn write_vectors<T>(
    lens: &[usize],
    write: impl for<'a> FnOnce(Vec<UninitWriter<'a, T>>) -> Result<Vec<UninitWriter<'a, T>>>,
) -> Result<Vec<Vec<T>>> {
    let expected = lens.iter().try_fold(0usize, |sum, &len| sum.checked_add(len));
    let expected = expected.ok_or(Error::Overflow { kernel: "write_vectors" })?;
    let mut vectors: Vec<_> = lens.iter().map(|&len| Vec::with_capacity(len)).collect();
    let writers = vectors.iter_mut().zip(lens);
    let writers = writers
        .map(|(vector, &len)| UninitWriter::new(&mut vector.spare_capacity_mut()[..len]))
        .collect();
    let full = write(writers)?;
    let found = full.iter().map(|writer| writer.written).sum::<usize>();
    if found != expected {
        return Err(Error::Values { found, expected });
    }
    for (vector, &len) in vectors.iter_mut().zip(lens) {
        // SAFETY: writers are made here alone and do not overlap, and each counts a place once, when it is
        // written. Those of another call can't be among them, for their lifetime is another. So as many values
        // as there are places in all are one in each.
        unsafe { vector.set_len(len) };
    }
    Ok(vectors)
}

/// Makes one vector of `len` values, which `write` appends to a writer; see [`write_vectors`].
fn write_vector<T>(
    len: usize,
    write: impl for<'a> FnOnce(UninitWriter<'a, T>) -> Result<Vec<UninitWriter<'a, T>>>,
) -> Result<Vec<T>> {
    let vectors = write_vectors(&[len], |mut writers| writers.pop().map_or(Ok(Vec::new()), write));
    Ok(vectors?.into_iter().next().unwrap_or_default())
}

/// A vector of parts, each with its number of values, which `write` appends to a writer of its own; shared out
/// among an executor's threads.
///
/// # Errors
/// `write` wrote fewer values than the part has, or the executor left out a part.
///
/// ```
/// use hypernn_kernels::executor::Sequential;
/// use hypernn_kernels::uninit::write_parts;
///
/// let parts = vec![(2, 'a'), (1, 'b')];
/// let letters = write_parts(parts, &Sequential, |letter, writer| {
///     writer.extend(std::iter::repeat(letter));
/// })?;
/// assert_eq!(letters, ['a', 'a', 'b']);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn write_parts<T: Send + Sync, P: Send>(
    parts: Vec<(usize, P)>,
    executor: &dyn Executor,
    write: impl Fn(P, &mut UninitWriter<'_, T>) + Sync,
) -> Result<Vec<T>> {
    let len = parts.iter().map(|(len, _)| len).sum();
    write_vector(len, |mut writer| {
        let parts = parts.into_iter().map(|(len, part)| (part, writer.split_off(len)));
        map_parts(parts.collect(), executor, |(part, mut writer)| {
            write(part, &mut writer);
            writer
        })
    })
}

/// A vector of `len` values, of which `write` appends those of a range: all at once, or, from
/// [`PARALLEL_VALUES`](crate::executor::PARALLEL_VALUES) on, a range for each thread.
///
/// # Errors
/// `write` wrote fewer values than the range has, or the executor left out a range.
///
/// ```
/// use hypernn_kernels::executor::Sequential;
/// use hypernn_kernels::uninit::write_values;
///
/// let squares = write_values(4, &Sequential, |range, writer| writer.extend(range.map(|i| i * i)))?;
/// assert_eq!(squares, [0, 1, 4, 9]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn write_values<T: Send + Sync>(
    len: usize,
    executor: &dyn Executor,
    write: impl Fn(Range<usize>, &mut UninitWriter<'_, T>) + Sync,
) -> Result<Vec<T>> {
    let executor = for_values(executor, len);
    let per_part = len.div_ceil(executor.threads().max(1)).max(1);
    let parts = (0..len).step_by(per_part).map(|start| start..len.min(start + per_part));
    let parts = parts.map(|range| (range.len(), range)).collect();
    write_parts(parts, executor, write)
}

/// Rows of `width` values, of which `write` appends those of a range of rows: all at once, or, where they have
/// [`PARALLEL_VALUES`](crate::executor::PARALLEL_VALUES) or more, a range for each thread.
///
/// # Errors
/// `write` wrote fewer values than the rows have, or the executor left out a range.
pub(crate) fn write_rows<T: Send + Sync>(
    rows: usize,
    width: usize,
    executor: &dyn Executor,
    write: impl Fn(Range<usize>, &mut UninitWriter<'_, T>) + Sync,
) -> Result<Vec<T>> {
    let len = crate::error::count("write_rows", &[rows, width])?;
    let executor = for_values(executor, len);
    let per_part = rows.div_ceil(executor.threads().max(1)).max(1);
    let parts = (0..rows).step_by(per_part).map(|start| start..rows.min(start + per_part));
    let parts = parts.map(|range| (range.len() * width, range)).collect();
    write_parts(parts, executor, write)
}

/// A matrix `[rows, columns]`, row-major, of which `write` is given a range of columns and a writer for the part
/// of each row in it: a range for each thread at most, which starts at a multiple of `step`.
///
/// # Errors
/// `write` wrote fewer values than the rows have, or the executor left out a range.
///
/// ```
/// use hypernn_kernels::executor::ScopedThreads;
/// use hypernn_kernels::uninit::write_columns;
///
/// let matrix = write_columns([2, 3], 1, &ScopedThreads::new(2), |columns, rows| {
///     for (row, writer) in rows.iter_mut().enumerate() {
///         writer.extend(columns.clone().map(|column| 10 * row + column));
///     }
/// })?;
/// assert_eq!(matrix, [0, 1, 2, 10, 11, 12]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn write_columns<T: Send + Sync>(
    size: [usize; 2],
    step: usize,
    executor: &dyn Executor,
    write: impl Fn(Range<usize>, &mut [UninitWriter<'_, T>]) + Sync,
) -> Result<Vec<T>> {
    let [rows, columns] = size;
    let ranges = column_ranges(columns, step, executor.threads());
    write_vector(rows * columns, |mut writer| {
        let mut parts: Vec<_> =
            ranges.into_iter().map(|range| (range, Vec::with_capacity(rows))).collect();
        for _ in 0..rows {
            parts.iter_mut().for_each(|(range, rows)| rows.push(writer.split_off(range.len())));
        }
        let full = map_parts(parts, executor, |(range, mut rows)| {
            write(range, &mut rows);
            rows
        });
        Ok(full?.into_iter().flatten().collect())
    })
}

/// Ranges of columns that start at multiples of `step`, at most as many as threads.
pub(crate) fn column_ranges(columns: usize, step: usize, threads: usize) -> Vec<Range<usize>> {
    let step = step.max(1);
    let per_part = columns.div_ceil(step).div_ceil(threads.max(1)).max(1) * step;
    let starts = (0..columns).step_by(per_part);
    starts.map(|start| start..columns.min(start + per_part)).collect()
}

/// Writes to places of a vector that hold no values yet, from the first on.
pub struct UninitWriter<'a, T> {
    left: &'a mut [MaybeUninit<T>],
    written: usize,
    /// Writers of one call are of no use to another.
    _brand: PhantomData<fn(&'a ()) -> &'a ()>,
}

/// A writer without places.
impl<T> Default for UninitWriter<'_, T> {
    fn default() -> Self {
        Self::new(&mut [])
    }
}

impl<'a, T> UninitWriter<'a, T> {
    fn new(left: &'a mut [MaybeUninit<T>]) -> Self {
        Self { left, written: 0, _brand: PhantomData }
    }

    /// How many places hold no value yet.
    #[inline(always)]
    pub fn remaining(&self) -> usize {
        self.left.len()
    }

    /// Takes off the first `count` places that hold no value yet.
    ///
    /// # Panics
    /// There are fewer places left.
    #[inline]
    pub fn split_off(&mut self, count: usize) -> Self {
        Self::new(self.next(count))
    }

    #[inline(always)]
    fn next(&mut self, count: usize) -> &'a mut [MaybeUninit<T>] {
        let (next, left) = std::mem::take(&mut self.left).split_at_mut(count);
        self.left = left;
        next
    }

    /// Appends values; those that find no place are left out.
    #[inline(always)]
    pub fn extend(&mut self, values: impl Iterator<Item = T>) {
        let mut count = 0;
        for (place, value) in self.left.iter_mut().zip(values) {
            place.write(value);
            count += 1;
        }
        self.next(count);
        self.written += count;
    }

    /// Appends values.
    ///
    /// # Panics
    /// There are fewer places left.
    #[inline(always)]
    pub fn extend_from_slice(&mut self, values: &[T])
    where
        T: Copy,
    {
        self.next(values.len()).write_copy_of_slice(values);
        self.written += values.len();
    }

    /// Takes off the first places that hold no value yet, as if they did.
    ///
    /// # Safety
    /// The caller writes to all of them before the writer is given back.
    #[inline(always)]
    pub(crate) unsafe fn claim(&mut self, len: usize) -> &'a mut [MaybeUninit<T>] {
        self.written += len;
        self.next(len)
    }

    /// Appends as many values as `write` is given places for.
    ///
    /// # Safety
    /// It writes to all of them.
    pub(crate) unsafe fn append(&mut self, len: usize, write: impl FnOnce(&mut [MaybeUninit<T>])) {
        write(self.next(len));
        self.written += len;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::executor::{PARALLEL_VALUES, ScopedThreads, Sequential};

    fn two_threads() -> ScopedThreads {
        ScopedThreads::new(2)
    }

    fn unwritten<T: std::fmt::Debug>(found: Result<T>) -> String {
        found.unwrap_err().to_string()
    }

    #[test]
    fn values_are_written_in_order() {
        for len in [0, 1, 1000, PARALLEL_VALUES, PARALLEL_VALUES + 1] {
            let found = write_values(len, &two_threads(), |range, writer| {
                let middle = range.start + range.len() / 2;
                writer.extend(range.start..middle);
                writer.extend(middle..range.end);
            });
            assert_eq!(found.unwrap(), (0..len).collect::<Vec<_>>());
        }
    }

    /// Cut and given back in another order.
    #[test]
    fn vectors_are_written_in_parts() {
        let found = write_vectors(&[3, 0, 2], |mut writers| {
            writers[0].extend_from_slice(&[1]);
            let mut middle = writers[0].split_off(1);
            writers[0].extend(3..);
            writers[2].extend(4..);
            middle.extend(2..);
            assert_eq!((writers[0].remaining(), middle.remaining()), (0, 0));
            writers.insert(0, middle);
            Ok(writers)
        });
        assert_eq!(found.unwrap(), [vec![1, 2, 3], vec![], vec![4, 5]]);
    }

    #[test]
    fn a_part_that_is_lost_is_refused() {
        let found = write_vectors(&[2], |mut writers| {
            writers[0].split_off(1).extend_from_slice(&[1]);
            writers[0].extend_from_slice(&[2]);
            Ok(writers)
        });
        assert_eq!(unwritten(found), "1 of 2 values were written");
    }

    #[test]
    fn parts_are_written_in_order() {
        for executor in [&Sequential as &dyn Executor, &two_threads()] {
            let parts = vec![(2, 10), (0, 20), (3, 30)];
            let found =
                write_parts(parts, executor, |first, writer: &mut UninitWriter<'_, i32>| {
                    writer.extend(first..);
                });
            assert_eq!(found.unwrap(), [10, 11, 30, 31, 32]);
        }
    }

    /// The values of another part do not make up for it.
    #[test]
    fn a_part_that_lacks_a_value_is_refused() {
        for executor in [&Sequential as &dyn Executor, &two_threads()] {
            let parts = vec![(2, 1), (2, 2)];
            let found = write_parts(parts, executor, |count, writer| writer.extend(0..count));
            assert_eq!(unwritten(found), "3 of 4 values were written");
        }
    }

    /// A writer that is put in the place of another is no more full than it was.
    #[test]
    fn a_writer_that_is_exchanged_is_refused() {
        let found = write_parts(vec![(1, ())], &Sequential, |(), writer| {
            writer.extend_from_slice(&[1_u8]);
            *writer = UninitWriter::default();
        });
        assert_eq!(unwritten(found), "0 of 1 values were written");
    }

    /// Parts begin at multiples of the step; each row's places are in order.
    #[test]
    fn columns_are_written_by_parts() {
        for (columns, threads) in [(0, 1), (1, 2), (4, 1), (4, 2), (7, 2), (7, 9)] {
            let found =
                write_columns([3, columns], 2, &ScopedThreads::new(threads), |range, rows| {
                    assert!(range.start % 2 == 0 && rows.len() == 3);
                    for (row, writer) in rows.iter_mut().enumerate() {
                        writer.extend(range.clone().map(|column| (row, column)));
                    }
                });
            let expected = (0..3).flat_map(|row| (0..columns).map(move |column| (row, column)));
            assert_eq!(found.unwrap(), expected.collect::<Vec<_>>());
        }
        let no_rows =
            write_columns::<u8>([0, 3], 2, &Sequential, |_, rows| assert!(rows.is_empty()));
        assert!(no_rows.unwrap().is_empty());
    }

    #[test]
    fn a_row_that_is_not_full_is_refused() {
        let found = write_columns([2, 2], 1, &Sequential, |_, rows| {
            rows.iter_mut().for_each(|row| row.extend_from_slice(&[1_u8]));
        });
        assert_eq!(unwritten(found), "2 of 4 values were written");
    }

    /// What takes no memory can be counted beyond all memory.
    #[test]
    fn lengths_that_can_not_be_counted_are_refused() {
        let found = write_vectors::<()>(&[usize::MAX, 1], |writers| Ok(writers));
        assert_eq!(unwritten(found), "write_vectors: more values than can be counted");
    }

    #[test]
    fn values_without_a_place_are_left_out() {
        let found = write_values(3, &Sequential, |_, writer| writer.extend(5..));
        assert_eq!(found.unwrap(), [5, 6, 7]);
    }

    #[test]
    fn a_range_that_is_not_full_is_refused() {
        let found = write_values(3, &Sequential, |_, writer| writer.extend(0..2));
        assert_eq!(unwritten(found), "2 of 3 values were written");
    }
}
