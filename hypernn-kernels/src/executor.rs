//! Work shared out among threads that the caller brings.

use std::any::Any;
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Error, Result};

/// Values from which on threads gain more than it takes to wake them, where each is a few operations.
pub const PARALLEL_VALUES: usize = 1 << 17;

/// Multiplications in products from which on they do.
pub const PARALLEL_PRODUCTS: usize = 1 << 20;

/// Threads that compute parts of a kernel's work.
///
/// Every kernel that can use threads takes an executor: [`Sequential`] has none, [`ScopedThreads`] starts them
/// anew each time, and a program that has a thread pool implements this trait for it.
///
/// An executor need not be reentrant, and may hold a lock while it works: a kernel that is called from inside
/// a part never asks an executor, but computes in turn. `work` does not panic.
///
/// Results don't depend on the executor's word: a part that it leaves out is an [`Error::Parts`], a part that it
/// gives out twice is computed once.
///
/// ```
/// use std::ops::Range;
///
/// use hypernn_kernels::executor::{Executor, map_parts};
///
/// /// Two threads, one for each half.
/// struct Halves;
///
/// impl Executor for Halves {
///     fn threads(&self) -> usize {
///         2
///     }
///
///     fn execute(&self, parts: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
///         std::thread::scope(|scope| {
///             scope.spawn(|| work(0..parts / 2));
///             work(parts / 2..parts);
///         });
///     }
/// }
///
/// assert_eq!(map_parts(vec![1, 2, 3], &Halves, |part| part * part)?, [1, 4, 9]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub trait Executor: Sync {
    /// How many threads there are, the calling one included. Work is cut into parts accordingly.
    fn threads(&self) -> usize;

    /// Calls `work` with ranges that together are `0..parts`, on any threads and at the same time.
    fn execute(&self, parts: usize, work: &(dyn Fn(Range<usize>) + Sync));
}

/// The calling thread alone.
///
/// ```
/// use hypernn_kernels::executor::{Executor, Sequential};
///
/// assert_eq!(Sequential.threads(), 1);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequential;

impl Executor for Sequential {
    fn threads(&self) -> usize {
        1
    }

    fn execute(&self, parts: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        work(0..parts);
    }
}

/// Threads of the standard library, which are started for each piece of work and end with it.
///
/// To start a thread takes some ten microseconds, so a pool is faster.
///
/// ```
/// use hypernn_kernels::executor::{ScopedThreads, map_parts};
///
/// let squares = map_parts(vec![1, 2, 3], &ScopedThreads::new(2), |part| part * part)?;
/// assert_eq!(squares, [1, 4, 9]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ScopedThreads {
    threads: usize,
}

impl ScopedThreads {
    /// An executor of so many threads, the calling one included; one at least.
    pub const fn new(threads: usize) -> Self {
        Self { threads: if threads == 0 { 1 } else { threads } }
    }

    /// An executor of as many threads as the system says it can run at once.
    pub fn available() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
    }
}

impl Executor for ScopedThreads {
    fn threads(&self) -> usize {
        self.threads
    }

    fn execute(&self, parts: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        let next = AtomicUsize::new(0);
        let take_parts = || {
            loop {
                let part = next.fetch_add(1, Ordering::Relaxed);
                if part >= parts {
                    break;
                }
                work(part..part + 1);
            }
        };
        std::thread::scope(|scope| {
            (1..self.threads.min(parts)).for_each(|_| drop(scope.spawn(take_parts)));
            take_parts();
        });
    }
}

/// The executor where so many multiplications in products are worth its threads, else the calling thread.
///
/// ```
/// use hypernn_kernels::executor::{PARALLEL_PRODUCTS, ScopedThreads, for_products};
///
/// let executor = ScopedThreads::new(4);
/// assert_eq!(for_products(&executor, PARALLEL_PRODUCTS - 1).threads(), 1);
/// assert_eq!(for_products(&executor, PARALLEL_PRODUCTS).threads(), 4);
/// ```
pub fn for_products(executor: &dyn Executor, multiplications: usize) -> &dyn Executor {
    if multiplications < PARALLEL_PRODUCTS { &Sequential } else { executor }
}

/// The executor where a pass over so many values is worth its threads, else the calling thread.
///
/// ```
/// use hypernn_kernels::executor::{PARALLEL_VALUES, ScopedThreads, for_values};
///
/// let executor = ScopedThreads::new(4);
/// assert_eq!(for_values(&executor, PARALLEL_VALUES - 1).threads(), 1);
/// assert_eq!(for_values(&executor, PARALLEL_VALUES).threads(), 4);
/// ```
pub fn for_values(executor: &dyn Executor, values: usize) -> &dyn Executor {
    if values < PARALLEL_VALUES { &Sequential } else { executor }
}

/// Computes each part, and gives the results in the order of the parts.
///
/// With one thread, with one part, and inside of a part that is computed by an executor, it does so in turn on the
/// calling thread.
///
/// # Errors
/// The executor left out a part.
///
/// # Panics
/// Where `compute` does, with what the first to panic said; parts that have not begun by then are left out. The
/// executor sees nothing of it.
///
/// ```
/// use hypernn_kernels::executor::{ScopedThreads, map_parts};
///
/// let mut values = [1, 2, 3, 4];
/// let sums = map_parts(values.chunks_mut(2).collect(), &ScopedThreads::new(2), |part| {
///     part[0] *= 10;
///     part.iter().sum::<i32>()
/// })?;
/// assert_eq!((sums, values), (vec![12, 34], [10, 2, 30, 4]));
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn map_parts<P: Send, R: Send + Sync>(
    parts: Vec<P>,
    executor: &dyn Executor,
    compute: impl Fn(P) -> R + Sync,
) -> Result<Vec<R>> {
    if parts.len() < 2 || InsidePart::is_set() || executor.threads() < 2 {
        return Ok(parts.into_iter().map(compute).collect());
    }
    share_out(parts, executor, compute)
}

fn share_out<P: Send, R: Send + Sync>(
    parts: Vec<P>,
    executor: &dyn Executor,
    compute: impl Fn(P) -> R + Sync,
) -> Result<Vec<R>> {
    let (parts, results): (Vec<_>, Vec<_>) =
        parts.into_iter().map(|part| (Mutex::new(Some(part)), OnceLock::new())).unzip();
    let first_panic = FirstPanic::default();
    executor.execute(parts.len(), &|range| {
        let _inside = InsidePart::enter();
        let pairs = parts.get(range.clone()).zip(results.get(range));
        for (part, result) in
            pairs.into_iter().flat_map(|(parts, results)| parts.iter().zip(results))
        {
            let part = lock(part).take();
            first_panic.catch(|| part.map(|part| result.set(compute(part))));
        }
    });
    first_panic.resume();
    let (found, expected) =
        (results.iter().filter(|result| result.get().is_some()).count(), results.len());
    if found < expected {
        return Err(Error::Parts { found, expected });
    }
    Ok(results.into_iter().filter_map(OnceLock::into_inner).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static INSIDE_PART: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, its thread computes parts for an executor.
struct InsidePart {
    before: bool,
}

impl InsidePart {
    fn is_set() -> bool {
        INSIDE_PART.get()
    }

    fn enter() -> Self {
        Self { before: INSIDE_PART.replace(true) }
    }
}

impl Drop for InsidePart {
    fn drop(&mut self) {
        INSIDE_PART.set(self.before);
    }
}

/// What the first part to panic said. A thread pool that unwinds would be of no use afterwards.
#[derive(Default)]
struct FirstPanic(Mutex<Option<Box<dyn Any + Send>>>);

impl FirstPanic {
    /// Runs a part, unless one has panicked.
    fn catch<R>(&self, part: impl FnOnce() -> R) {
        if lock(&self.0).is_some() {
            return;
        }
        // The panic goes on to whoever could see what the part left behind.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(part()))) {
            lock(&self.0).get_or_insert(payload);
        }
    }

    /// Goes on with it where the work was given out.
    fn resume(self) {
        if let Some(payload) = self.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(payload);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Barrier;
    use std::thread::{self, ThreadId};

    use super::*;

    /// Executors that have several threads.
    fn several() -> [ScopedThreads; 2] {
        [2, 5].map(ScopedThreads::new)
    }

    #[test]
    fn results_come_in_order() {
        for count in [0, 1, 2, 100] {
            let expected: Vec<_> = (0..count).map(|i| i * i).collect();
            let squares =
                |executor: &dyn Executor| map_parts((0..count).collect(), executor, |i| i * i);
            assert_eq!(squares(&Sequential).unwrap(), expected);
            several().iter().for_each(|threads| assert_eq!(squares(threads).unwrap(), expected));
        }
    }

    /// Holds a lock while it works, as candle's pool does: whoever asks it again on the same thread waits for ever.
    struct Locked {
        threads: ScopedThreads,
        lock: Mutex<usize>,
    }

    impl Locked {
        fn new() -> Self {
            Self { threads: ScopedThreads::new(2), lock: Mutex::new(0) }
        }

        /// How often it was asked.
        fn calls(&self) -> usize {
            *self.lock.lock().unwrap()
        }
    }

    impl Executor for Locked {
        fn threads(&self) -> usize {
            self.threads.threads()
        }

        fn execute(&self, parts: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
            let mut calls = self.lock.try_lock().unwrap();
            *calls += 1;
            self.threads.execute(parts, work);
        }
    }

    /// From the calling thread and from a worker, each of which computes one of two parts that wait for each
    /// other: what they share out themselves they compute in turn, on their own thread.
    #[test]
    fn sharing_out_from_inside_a_part_runs_in_turn() {
        let (executor, both) = (Locked::new(), Barrier::new(2));
        let nested = || -> Vec<ThreadId> {
            map_parts(vec![(); 8], &executor, |()| {
                // And once more.
                map_parts(vec![(); 2], &executor, |()| thread::current().id()).unwrap()[1]
            })
            .unwrap()
        };
        let outer = map_parts(vec![(); 2], &executor, |()| {
            both.wait();
            (thread::current().id(), nested())
        });
        let outer = outer.unwrap();
        assert!(outer.iter().any(|(id, _)| *id == thread::current().id()));
        assert_ne!(outer[0].0, outer[1].0);
        for (id, nested) in &outer {
            assert_eq!(nested, &vec![*id; 8]);
        }
        assert_eq!(executor.calls(), 1);
        // Outside, it shares out again.
        map_parts(vec![(); 2], &executor, |()| ()).unwrap();
        assert_eq!(executor.calls(), 2);
    }

    /// On the calling thread and on a worker.
    #[test]
    fn a_panic_reaches_the_caller_and_leaves_the_pool_usable() {
        let executor = Locked::new();
        let caller = thread::current().id();
        for on_caller in [true, false] {
            let both = Barrier::new(2);
            let panicking = AssertUnwindSafe(|| {
                map_parts(vec![(); 2], &executor, |()| {
                    both.wait();
                    if (thread::current().id() == caller) == on_caller {
                        panic!("a part's own");
                    }
                })
            });
            let payload = catch_unwind(panicking).unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&"a part's own"));
            assert!(!InsidePart::is_set());
            assert_eq!(map_parts(vec![1, 2], &executor, |i| i + 1).unwrap(), [2, 3]);
        }
    }

    #[test]
    fn the_first_panic_is_the_one() {
        let panicking =
            || map_parts((0..9).collect(), &ScopedThreads::new(2), |i: usize| panic!("{i}"));
        let payload = catch_unwind(AssertUnwindSafe(panicking)).unwrap_err();
        let first = payload.downcast_ref::<String>().unwrap();
        assert!(["0", "1"].contains(&first.as_str()), "{first}");
    }

    /// Leaves out the last part, gives out the first twice, and then what isn't there.
    struct Careless;

    impl Executor for Careless {
        fn threads(&self) -> usize {
            2
        }

        fn execute(&self, parts: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
            work(0..parts - 1);
            work(0..1);
            work(parts..parts + 1);
        }
    }

    #[test]
    fn a_part_without_a_result_is_an_error() {
        let computed = AtomicUsize::new(0);
        let compute = |_| computed.fetch_add(1, Ordering::Relaxed);
        let found = map_parts(vec![(); 3], &Careless, compute);
        assert_eq!(found, Err(Error::Parts { found: 2, expected: 3 }));
        assert_eq!(found.unwrap_err().to_string(), "2 of 3 parts were computed");
        assert_eq!(computed.into_inner(), 2);
    }

    #[test]
    fn little_is_computed_by_the_calling_thread() {
        let executor = ScopedThreads::new(3);
        let threads = [PARALLEL_PRODUCTS - 1, PARALLEL_PRODUCTS]
            .map(|n| for_products(&executor, n).threads());
        assert_eq!(threads, [1, 3]);
        let threads =
            [PARALLEL_VALUES - 1, PARALLEL_VALUES].map(|n| for_values(&executor, n).threads());
        assert_eq!(threads, [1, 3]);
    }
}
