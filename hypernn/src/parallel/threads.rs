//! Ranks that are threads of one process.

use std::fmt::Write;
use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ScopedJoinHandle;

use candle_core::{Result, Tensor};

use super::all_reduce::{AllReduce, ensure_sendable, ensure_summable};
use crate::error::{bail, plain, ranks};

/// A rank among threads of this process: for tests, and wherever neither MPI nor NCCL is at hand.
///
/// Sums are taken in the order of the ranks. Ranks that call different operations, or with tensors of other shapes
/// or dtypes, all get an error that names them; so do those that wait for a rank that has ended.
///
/// candle computes with a pool of threads that the ranks share, one at a time: threads as ranks make nothing faster.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    meeting: Arc<Meeting>,
}

/// Where ranks meet for an operation.
#[derive(Debug)]
struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// What each rank has brought to the operation that is going on.
    brought: Vec<Option<Brought>>,
    /// What came of it, until all have taken it.
    result: Option<std::result::Result<Vec<Tensor>, String>>,
    /// Ranks that are no longer there, each with the reason, in the order in which they left.
    left: Vec<(usize, String)>,
}

#[derive(Clone, Debug)]
struct Brought {
    operation: Operation,
    tensors: Vec<Tensor>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Sum,
    Broadcast(usize),
}

impl Threads {
    /// Runs a function on so many threads, each a rank, and gives what they returned, by rank.
    ///
    /// # Errors
    /// No ranks, or the error of the rank that ended first with one: it is the cause of the others'.
    ///
    /// # Panics
    /// Where a rank has, after all others have ended.
    pub fn run<T: Send, E: Send + From<candle_core::Error>>(
        size: usize,
        rank: impl Fn(&Self) -> std::result::Result<T, E> + Sync,
    ) -> std::result::Result<Vec<T>, E> {
        if size == 0 {
            return Err(ranks("no ranks, expected 1 or more").into());
        }
        let meeting = Arc::new(Meeting::new(size));
        let of = |number| Self { rank: number, meeting: meeting.clone() };
        let ends: Vec<_> = std::thread::scope(|scope| {
            let start = |own: Self| {
                scope.spawn(|| {
                    let own = own;
                    rank(&own)
                })
            };
            let threads: Vec<_> = (0..size).map(of).map(start).collect();
            threads.into_iter().map(ScopedJoinHandle::join).collect()
        });
        let ends = ends.into_iter().map(|end| end.unwrap_or_else(|panic| resume_unwind(panic)));
        let mut ends: Vec<_> = ends.collect();
        let in_order: Vec<_> = meeting.lock().left.iter().map(|(rank, _)| *rank).collect();
        if let Some(first) = in_order.into_iter().find(|&rank| ends[rank].is_err()) {
            ends.swap(0, first);
        }
        ends.into_iter().collect()
    }

    /// Brings tensors to an operation, and waits for what comes of it.
    fn meet(&self, operation: Operation, tensors: &mut [Tensor]) -> Result<()> {
        let mut state = self.meeting.lock();
        // Some may still have to take the result of the operation before.
        while state.result.is_some() {
            state = self.meeting.wait(state);
        }
        state.brought[self.rank] = Some(Brought { operation, tensors: tensors.to_vec() });
        if state.brought.iter().all(Option::is_some) {
            state.result = Some(state.compute());
            self.meeting.changed.notify_all();
        }
        while state.result.is_none() {
            if let Some(words) = state.missing() {
                state.brought[self.rank] = None;
                return Err(ranks(words));
            }
            state = self.meeting.wait(state);
        }
        let result = state.take(self.rank);
        self.meeting.changed.notify_all();
        drop(state);
        let result = result.map_err(ranks)?;
        tensors.iter_mut().zip(result).for_each(|(tensor, result)| *tensor = result);
        Ok(())
    }
}

impl Meeting {
    fn new(size: usize) -> Self {
        let state = State { brought: vec![None; size], result: None, left: Vec::new() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// That of the operation for which all have come.
    fn compute(&self) -> std::result::Result<Vec<Tensor>, String> {
        let brought: Vec<_> = self.brought.iter().flatten().collect();
        let Some((first, others)) = brought.split_first() else { return Ok(Vec::new()) };
        for (rank, other) in (1..).zip(others) {
            if first.words() != other.words() {
                return Err(format!(
                    "the ranks do not do the same: rank 0 {}, rank {rank} {}",
                    first.words(),
                    other.words()
                ));
            }
        }
        let result = match first.operation {
            Operation::Broadcast(root) => brought[root].tensors.iter().map(Tensor::copy).collect(),
            Operation::Sum => (0..first.tensors.len())
                .map(|index| sum(brought.iter().map(|one| &one.tensors[index])))
                .collect::<Result<Vec<_>>>(),
        };
        result.map_err(|err| plain(&err))
    }

    /// The result for one rank; the last one leaves room for the next operation.
    fn take(&mut self, rank: usize) -> std::result::Result<Vec<Tensor>, String> {
        let result = self.result.clone().unwrap_or_else(|| Ok(Vec::new()));
        self.brought[rank] = None;
        if self.brought.iter().all(Option::is_none) {
            self.result = None;
        }
        result
    }

    /// Why the operation can't take place: a rank that has not come to it is not there any more.
    fn missing(&self) -> Option<String> {
        let absent = self.left.iter().find(|(rank, _)| self.brought[*rank].is_none());
        absent.map(|(rank, reason)| format!("rank {rank} {reason}"))
    }
}

impl Brought {
    /// What it is, which all ranks have to agree on.
    fn words(&self) -> String {
        let mut words = match self.operation {
            Operation::Sum => "sums".to_owned(),
            Operation::Broadcast(root) => format!("broadcasts from rank {root}"),
        };
        for tensor in &self.tensors {
            let _ = write!(words, " {:?} {:?}", tensor.dtype(), tensor.dims());
        }
        words
    }
}

/// A sum in the order of the ranks.
fn sum<'a>(mut tensors: impl Iterator<Item = &'a Tensor>) -> Result<Tensor> {
    let Some(first) = tensors.next() else { bail!(ranks, "no ranks, expected 1 or more") };
    tensors.try_fold(first.copy()?, |sum, tensor| sum + tensor.to_device(first.device())?)
}

impl AllReduce for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.meeting.lock().brought.len()
    }

    fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()> {
        tensors.iter().try_for_each(ensure_summable)?;
        self.meet(Operation::Sum, tensors)
    }

    fn broadcast(&self, tensors: &mut [Tensor], root: usize) -> Result<()> {
        let size = self.size();
        tensors.iter().try_for_each(|tensor| ensure_sendable(tensor, root, size))?;
        self.meet(Operation::Broadcast(root), tensors)
    }

    fn leave(&self, reason: &str) {
        let mut state = self.meeting.lock();
        if state.left.iter().all(|(rank, _)| *rank != self.rank) {
            state.left.push((self.rank, reason.to_owned()));
        }
        self.meeting.changed.notify_all();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.leave(if std::thread::panicking() { "has panicked" } else { "has ended" });
    }
}
