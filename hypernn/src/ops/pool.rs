//! Work shared out among candle's own threads.

use std::sync::{Mutex, OnceLock, PoisonError};

use candle_core::utils::barrier_pool;

/// How many there are, the calling one included.
pub(super) fn threads() -> usize {
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
}
