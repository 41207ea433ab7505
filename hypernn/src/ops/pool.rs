//! Work shared out among candle's own threads.

#![allow(unsafe_code, reason = "values are written to memory that holds none yet")]

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

/// A vector of so many values, of which `write` gets some to append: all at once, or, where they are
/// many, a part for each thread.
///
/// As [`each`] says, `write` must not share out itself.
pub(super) fn written<T: Send>(
    len: usize,
    write: impl Fn(Range<usize>, &mut Places<'_, T>) + Sync,
) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    let places = &mut values.spare_capacity_mut()[..len];
    let write_from = |(start, places): (usize, &mut [_])| {
        let (range, mut into) = (start..start + places.len(), Places { places, len: 0 });
        write(range, &mut into);
        assert!(into.len == into.places.len(), "{} of {} values", into.len, into.places.len());
    };
    if len < PARALLEL_VALUES {
        write_from((0, places));
    } else {
        let per_part = len.div_ceil(threads());
        let starts = (0..len).step_by(per_part);
        each(starts.zip(places.chunks_mut(per_part)).collect(), true, write_from);
    }
    // SAFETY: the parts cover the vector, and each was seen to be written in full.
    unsafe { values.set_len(len) };
    values
}

/// Some places of a vector, filled from the first on.
pub(super) struct Places<'a, T> {
    places: &'a mut [MaybeUninit<T>],
    len: usize,
}

impl<T> Places<'_, T> {
    /// Appends values; those that find no place are left out.
    #[inline(always)]
    pub(super) fn extend(&mut self, values: impl Iterator<Item = T>) {
        let mut count = 0;
        for (place, value) in self.places[self.len..].iter_mut().zip(values) {
            place.write(value);
            count += 1;
        }
        self.len += count;
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
