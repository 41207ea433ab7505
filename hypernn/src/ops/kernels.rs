//! The kernels of `hypernn-kernels` on candle's threads, with candle's errors.

use std::ops::Range;

use candle_core::Result;
use candle_core::utils::barrier_pool;
use hypernn_kernels::Error as KernelError;
use hypernn_kernels::executor::{self, Executor};
use hypernn_kernels::uninit::{self, UninitWriter};

use crate::error;

/// The threads of candle's pool, which its element-wise operations use.
///
/// A part must not call an operation of candle's that uses them too: on the thread that gave out the parts, it would
/// wait for them. What kernels share out from inside of a part runs in turn.
pub(super) struct CandleThreads;

impl Executor for CandleThreads {
    fn threads(&self) -> usize {
        barrier_pool().n_workers() + 1
    }

    fn execute(&self, parts: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        barrier_pool().execute_chunked(parts, work);
    }
}

/// A kernel's result as one of candle's: what it refuses are numbers of values, one with another.
pub(super) fn kernel<T>(result: hypernn_kernels::Result<T>) -> Result<T> {
    result.map_err(|err| match err {
        KernelError::Overflow { .. } => error::memory(err.to_string()),
        err => error::shape(err.to_string()),
    })
}

/// candle's threads, where a pass over so many values is worth them.
pub(super) fn for_values(values: usize) -> &'static dyn Executor {
    executor::for_values(&CandleThreads, values)
}

/// A vector of so many values, of which `write` appends those of a range, on candle's threads where they are many.
pub(super) fn write_values<T: Send + Sync>(
    len: usize,
    write: impl Fn(Range<usize>, &mut UninitWriter<'_, T>) + Sync,
) -> Result<Vec<T>> {
    kernel(uninit::write_values(len, &CandleThreads, write))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use candle_core::{Device, Tensor};
    use hypernn_kernels::executor::map_parts;

    use super::*;

    /// One of candle's own passes that its pool shares out.
    fn candle_still_computes() {
        let ones = Tensor::ones(1 << 20, candle_core::DType::F32, &Device::Cpu).unwrap();
        let sum = (&ones + &ones).unwrap().sum_all().unwrap();
        assert_eq!(sum.to_scalar::<f32>().unwrap(), (1 << 21) as f32);
    }

    /// From the calling thread, which holds the pool's lock, and from its workers.
    #[test]
    fn sharing_out_from_inside_a_part_does_not_wait() {
        let count = 8 * CandleThreads.threads();
        let nested = |start: usize| {
            map_parts((start..start + count).collect(), &CandleThreads, |i: usize| i).unwrap()
        };
        let found = map_parts((0..count).collect(), &CandleThreads, nested).unwrap();
        for (start, found) in found.into_iter().enumerate() {
            assert!(found.into_iter().eq(start..start + count));
        }
        candle_still_computes();
    }

    #[test]
    fn a_panic_leaves_candle_s_pool_usable() {
        let count = 8 * CandleThreads.threads();
        for bad in [0, count - 1] {
            let panicking = AssertUnwindSafe(|| {
                map_parts((0..count).collect(), &CandleThreads, |i| {
                    if i == bad {
                        panic!("a part's own");
                    }
                })
            });
            let payload = catch_unwind(panicking).unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&"a part's own"));
            candle_still_computes();
        }
    }

    #[test]
    fn a_kernel_s_error_keeps_its_words_and_has_a_kind() {
        let found = |sizes| {
            let refused = kernel(hypernn_kernels::Matrix::row_major(&[1f32], sizes)).unwrap_err();
            crate::Error::of(&refused).cloned().unwrap()
        };
        let shape = found([1, 2]);
        assert!(matches!(shape, crate::Error::Shape { .. }), "{shape:?}");
        assert_eq!(shape.to_string(), "matmul: the matrix has 1 values, expected 2");
        let memory = found([usize::MAX, 2]);
        assert!(matches!(memory, crate::Error::Memory { .. }), "{memory:?}");
    }
}
