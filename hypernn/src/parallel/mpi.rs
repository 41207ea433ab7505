//! Ranks that are processes, by MPI.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use candle_core::{DType, Result, Tensor, WithDType};
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Equivalence, Root};

use super::all_reduce::{AllReduce, ensure_sendable, ensure_summable};
use crate::error::ranks;

/// What MPI takes at once: it counts in 32 bits.
const MOST: usize = 1 << 30;

/// A rank among processes that were started together, on one machine or many, by `mpiexec` or Slurm's `srun`; with
/// the feature `mpi`.
///
/// It needs an implementation of MPI with its compiler `mpicc`, and libclang, when it is built: on Debian and Ubuntu
/// `apt-get install libmpich-dev mpich libclang-dev`. MPICH and what is compatible with it (Intel MPI, MVAPICH,
/// Cray) are what it is tested with; Open MPI refuses to run as root without a flag.
///
/// Tensors on another device go through the CPU's memory. Which thread computes is up to candle, but MPI is called
/// from the thread of [`run`](Self::run) alone.
///
/// # When a rank ends
/// A process that is killed, panics or returns an error ends all others, by the launcher: MPICH's `mpiexec` does so at
/// once; `srun` does with `--kill-on-bad-exit=1`. An error within [`DataParallel`](super::DataParallel) is told
/// to all ranks first.
pub struct Mpi {
    world: SimpleCommunicator,
    left: RefCell<Option<String>>,
    /// Stays on its thread.
    thread: PhantomData<*const ()>,
}

impl Mpi {
    /// Starts MPI in this process, runs what this rank does and ends MPI, together with all others. A program can do
    /// this once, and calls it early: it is the launcher that starts a process for each rank. Without one the
    /// process is the only rank.
    ///
    /// ```no_run
    /// use candle_core::{Device, Result, Tensor};
    /// use hypernn::parallel::{AllReduce, Mpi};
    ///
    /// fn main() -> Result<()> {
    ///     Mpi::run(|rank| {
    ///         let mut tensors = [Tensor::new(&[1f32, 2.], &Device::Cpu)?];
    ///         rank.all_reduce(&mut tensors)?;
    ///         println!("rank {} of {}: {}", rank.rank(), rank.size(), tensors[0]);
    ///         Ok(())
    ///     })
    /// }
    /// ```
    ///
    /// # Errors
    /// That of `rank`, after which the process is to end, since the others may wait for it: MPI is not ended then,
    /// so that the launcher ends them. MPI was started before. Or a rank that left others by itself.
    pub fn run<T, E: From<candle_core::Error>>(
        rank: impl FnOnce(&Self) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else {
            return Err(ranks("MPI has been started in this process before").into());
        };
        // A panic, too, must not end MPI: that waits for all ranks.
        let universe = ManuallyDrop::new(universe);
        let (left, thread) = (RefCell::default(), PhantomData);
        let own = Self { world: universe.world(), left, thread };
        let result = rank(&own)?;
        if let Some(reason) = own.left.take() {
            return Err(ranks(format!("rank {} {reason}", own.rank())).into());
        }
        drop(own);
        drop(ManuallyDrop::into_inner(universe));
        Ok(result)
    }

    fn sum<T: WithDType + Equivalence>(&self, tensor: &Tensor) -> Result<Tensor> {
        let own = tensor.flatten_all()?.to_vec1::<T>()?;
        let mut sums = vec![T::zero(); own.len()];
        for (own, sums) in own.chunks(MOST).zip(sums.chunks_mut(MOST)) {
            self.world.all_reduce_into(own, sums, SystemOperation::sum());
        }
        Tensor::from_vec(sums, tensor.shape(), tensor.device())
    }

    fn received<T: WithDType + Equivalence>(&self, tensor: &Tensor, root: usize) -> Result<Tensor> {
        let mut values = tensor.flatten_all()?.to_vec1::<T>()?;
        let root = self.world.process_at_rank(i32::try_from(root).unwrap_or(i32::MAX));
        values.chunks_mut(MOST).for_each(|values| root.broadcast_into(values));
        Tensor::from_vec(values, tensor.shape(), tensor.device())
    }
}

impl AllReduce for Mpi {
    fn rank(&self) -> usize {
        usize::try_from(self.world.rank()).unwrap_or_default()
    }

    fn size(&self) -> usize {
        usize::try_from(self.world.size()).unwrap_or(1)
    }

    fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()> {
        for tensor in tensors {
            ensure_summable(tensor)?;
            *tensor = match tensor.dtype() {
                DType::F32 => self.sum::<f32>(tensor)?,
                _ => self.sum::<f64>(tensor)?,
            };
        }
        Ok(())
    }

    fn broadcast(&self, tensors: &mut [Tensor], root: usize) -> Result<()> {
        for tensor in tensors {
            ensure_sendable(tensor, root, self.size())?;
            *tensor = match tensor.dtype() {
                DType::F32 => self.received::<f32>(tensor, root)?,
                DType::F64 => self.received::<f64>(tensor, root)?,
                DType::U8 => self.received::<u8>(tensor, root)?,
                DType::U32 => self.received::<u32>(tensor, root)?,
                _ => self.received::<i64>(tensor, root)?,
            };
        }
        Ok(())
    }

    /// The others are ended when this process ends.
    fn leave(&self, reason: &str) {
        self.left.borrow_mut().get_or_insert_with(|| reason.to_owned());
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mpi").field("rank", &self.rank()).field("size", &self.size()).finish()
    }
}
