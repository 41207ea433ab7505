//! Work shared out among candle's own threads.

#![allow(unsafe_code, reason = "values are written to memory that holds none yet")]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use candle_core::utils::barrier_pool;

/// Values from which on threads gain more than it takes to wake them, where each is a few operations.
const PARALLEL_VALUES: usize = 1 << 17;

/// Multiplications in products from which on they do.
const PARALLEL_PRODUCTS: usize = 1 << 20;

/// How many threads products of so many multiplications are worth.
pub(super) fn threads_for(multiplications: usize) -> usize {
    if multiplications < PARALLEL_PRODUCTS { 1 } else { threads() }
}

/// How many passes over so many values are worth.
pub(super) fn threads_for_values(values: usize) -> usize {
    if values < PARALLEL_VALUES { 1 } else { threads() }
}

/// How many there are, the calling one included.
fn threads() -> usize {
    barrier_pool().n_workers() + 1
}

/// Computes each part, in the order of the parts: in turn, or, where `parallel`, shared out.
///
/// `compute` must not share out itself, nor call an operation of candle's that does: the threads would
/// wait for each other.
pub(super) fn each<P: Send, R: Send + Sync>(
    parts: Vec<P>,
    parallel: bool,
    compute: impl Fn(P) -> R + Sync,
) -> Vec<R> {
    if !parallel || parts.len() < 2 {
        return parts.into_iter().map(compute).collect();
    }
    let (parts, results): (Vec<_>, Vec<_>) =
        parts.into_iter().map(|part| (Mutex::new(Some(part)), OnceLock::new())).unzip();
    barrier_pool().execute_chunked(parts.len(), |range| {
        for (part, result) in parts[range.clone()].iter().zip(&results[range]) {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner).take();
            part.map(|part| result.set(compute(part)));
        }
    });
    results.into_iter().filter_map(OnceLock::into_inner).collect()
}

/// Vectors of so many values each, from places for them, which `write` gives back full, in any order and
/// cut in any way.
pub(super) fn written_all<T>(
    lens: &[usize],
    write: impl for<'a> FnOnce(Vec<Places<'a, T>>) -> Vec<Places<'a, T>>,
) -> Vec<Vec<T>> {
    let mut vectors: Vec<_> = lens.iter().map(|&len| Vec::with_capacity(len)).collect();
    let places = vectors.iter_mut().zip(lens);
    let places = places.map(|(vector, &len)| Places::new(&mut vector.spare_capacity_mut()[..len]));
    let full = write(places.collect());
    let (found, expected) =
        (full.iter().map(|places| places.written).sum::<usize>(), lens.iter().sum::<usize>());
    assert!(found == expected, "{found} of {expected} values");
    for (vector, &len) in vectors.iter_mut().zip(lens) {
        // SAFETY: places are made here alone and do not overlap, so as many values as there are places
        // in all are one in each.
        unsafe { vector.set_len(len) };
    }
    vectors
}

/// The same of one vector.
fn written_one<T>(
    len: usize,
    write: impl for<'a> FnOnce(Places<'a, T>) -> Vec<Places<'a, T>>,
) -> Vec<T> {
    let vectors = written_all(&[len], |mut places| places.pop().map_or_else(Vec::new, write));
    vectors.into_iter().next().unwrap_or_default()
}

/// A vector of parts, of which `write` gets each by itself, with so many places, to fill: in turn, or,
/// where `parallel`, shared out.
///
/// As [`each`] says, `write` must not share out itself.
pub(super) fn written_parts<T: Send + Sync, P: Send>(
    parts: Vec<(usize, P)>,
    parallel: bool,
    write: impl Fn(P, &mut Places<'_, T>) + Sync,
) -> Vec<T> {
    let len = parts.iter().map(|(len, _)| len).sum();
    written_one(len, |mut places| {
        let parts = parts.into_iter().map(|(len, part)| (part, places.split_off(len)));
        each(parts.collect(), parallel, |(part, mut places)| {
            write(part, &mut places);
            places
        })
    })
}

/// A vector of so many values, of which `write` gets some to append: all at once, or, where they are
/// many, a part for each thread.
///
/// As [`each`] says, `write` must not share out itself.
pub(super) fn written<T: Send + Sync>(
    len: usize,
    write: impl Fn(Range<usize>, &mut Places<'_, T>) + Sync,
) -> Vec<T> {
    let threads = threads_for_values(len);
    let per_part = len.div_ceil(threads).max(1);
    let parts = (0..len).step_by(per_part).map(|start| start..len.min(start + per_part));
    let parts = parts.map(|range| (range.len(), range)).collect();
    written_parts(parts, threads > 1, write)
}

/// A matrix `[rows, columns]`, row-major, of which `write` gets some columns of all rows, to append to
/// each: a part for each of so many threads, at most, that starts at a multiple of `step`.
///
/// As [`each`] says, `write` must not share out itself.
pub(super) fn written_columns<T: Send + Sync>(
    [rows, columns]: [usize; 2],
    (step, threads): (usize, usize),
    write: impl Fn(Range<usize>, &mut [Places<'_, T>]) + Sync,
) -> Vec<T> {
    let ranges = column_parts(columns, step, threads);
    written_one(rows * columns, |mut places| {
        let mut parts: Vec<_> =
            ranges.into_iter().map(|range| (range, Vec::with_capacity(rows))).collect();
        for _ in 0..rows {
            parts.iter_mut().for_each(|(range, rows)| rows.push(places.split_off(range.len())));
        }
        let parallel = parts.len() > 1;
        let full = each(parts, parallel, |(range, mut rows)| {
            write(range, &mut rows);
            rows
        });
        full.into_iter().flatten().collect()
    })
}

/// Runs of columns that start at multiples of `step`, at most as many as threads.
pub(super) fn column_parts(columns: usize, step: usize, threads: usize) -> Vec<Range<usize>> {
    let per_part = columns.div_ceil(step).div_ceil(threads).max(1) * step;
    let starts = (0..columns).step_by(per_part);
    starts.map(|start| start..columns.min(start + per_part)).collect()
}

/// Some places of a vector, filled from the first on.
pub(super) struct Places<'a, T> {
    left: &'a mut [MaybeUninit<T>],
    written: usize,
    /// Those of one vector are of no use to another.
    _brand: PhantomData<fn(&'a ()) -> &'a ()>,
}

impl<T> Default for Places<'_, T> {
    fn default() -> Self {
        Self::new(&mut [])
    }
}

impl<'a, T> Places<'a, T> {
    fn new(left: &'a mut [MaybeUninit<T>]) -> Self {
        Self { left, written: 0, _brand: PhantomData }
    }

    /// How many hold no value yet.
    #[inline(always)]
    pub(super) fn left(&self) -> usize {
        self.left.len()
    }

    /// Takes off so many of those that hold no value yet, the first.
    pub(super) fn split_off(&mut self, count: usize) -> Self {
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
    pub(super) fn extend(&mut self, values: impl Iterator<Item = T>) {
        let mut count = 0;
        for (place, value) in self.left.iter_mut().zip(values) {
            place.write(value);
            count += 1;
        }
        self.next(count);
        self.written += count;
    }

    /// Appends values, for which there must be places.
    #[inline(always)]
    pub(super) fn extend_from_slice(&mut self, values: &[T])
    where
        T: Copy,
    {
        self.next(values.len()).write_copy_of_slice(values);
        self.written += values.len();
    }

    /// Appends as many values as `write` is given places for.
    ///
    /// # Safety
    /// It writes to all of them.
    pub(super) unsafe fn append(&mut self, len: usize, write: impl FnOnce(&mut [MaybeUninit<T>])) {
        write(self.next(len));
        self.written += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order() {
        for (count, parallel) in [0, 1, 2, 100].into_iter().flat_map(|n| [(n, false), (n, true)]) {
            let squares = each((0..count).collect(), parallel, |i| i * i);
            assert_eq!(squares, (0..count).map(|i| i * i).collect::<Vec<_>>());
        }
    }

    #[test]
    fn values_are_written_in_order() {
        for len in [0, 1, 1000, PARALLEL_VALUES, PARALLEL_VALUES + 1] {
            let found = written(len, |range, places| {
                let middle = range.start + range.len() / 2;
                places.extend(range.start..middle);
                places.extend(middle..range.end);
            });
            assert_eq!(found, (0..len).collect::<Vec<_>>());
        }
    }

    /// Cut and given back in another order.
    #[test]
    fn vectors_are_written_in_parts() {
        let found = written_all(&[3, 0, 2], |mut places| {
            places[0].extend_from_slice(&[1]);
            let mut middle = places[0].split_off(1);
            places[0].extend(3..);
            places[2].extend(4..);
            middle.extend(2..);
            assert_eq!((places[0].left(), middle.left()), (0, 0));
            places.insert(0, middle);
            places
        });
        assert_eq!(found, [vec![1, 2, 3], vec![], vec![4, 5]]);
    }

    #[test]
    #[should_panic(expected = "1 of 2 values")]
    fn a_part_that_is_lost_is_refused() {
        written_all(&[2], |mut places| {
            places[0].split_off(1).extend_from_slice(&[1]);
            places[0].extend_from_slice(&[2]);
            places
        });
    }

    #[test]
    fn parts_are_written_in_order() {
        for parallel in [false, true] {
            let parts = vec![(2, 10), (0, 20), (3, 30)];
            let found = written_parts(parts, parallel, |first, places: &mut Places<'_, i32>| {
                places.extend(first..);
            });
            assert_eq!(found, [10, 11, 30, 31, 32]);
        }
    }

    #[test]
    #[should_panic(expected = "1 of 2 values")]
    fn a_part_that_lacks_a_value_is_refused() {
        written_parts(vec![(2, ())], false, |(), places| places.extend_from_slice(&[1_u8]));
    }

    /// Parts begin at multiples of the step; each row's places are in order.
    #[test]
    fn columns_are_written_by_parts() {
        for (columns, threads) in [(0, 1), (1, 2), (4, 1), (4, 2), (7, 2), (7, 9)] {
            let found = written_columns([3, columns], (2, threads), |range, rows| {
                assert!(range.start % 2 == 0 && rows.len() == 3);
                for (row, places) in rows.iter_mut().enumerate() {
                    places.extend(range.clone().map(|column| (row, column)));
                }
            });
            let expected = (0..3).flat_map(|row| (0..columns).map(move |column| (row, column)));
            assert_eq!(found, expected.collect::<Vec<_>>());
        }
        let no_rows = written_columns::<u8>([0, 3], (2, 1), |_, rows| assert!(rows.is_empty()));
        assert!(no_rows.is_empty());
    }

    #[test]
    #[should_panic(expected = "2 of 4 values")]
    fn a_row_that_is_not_full_is_refused() {
        written_columns([2, 2], (1, 1), |_, rows| {
            rows.iter_mut().for_each(|row| row.extend_from_slice(&[1_u8]));
        });
    }

    #[test]
    fn values_without_a_place_are_left_out() {
        assert_eq!(written(3, |_, places| places.extend(5..)), [5, 6, 7]);
    }

    #[test]
    #[should_panic(expected = "2 of 3 values")]
    fn a_part_that_is_not_full_is_refused() {
        written(3, |_, places| places.extend(0..2));
    }
}
