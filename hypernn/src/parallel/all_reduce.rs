//! What ranks exchange.

use std::rc::Rc;
use std::sync::Arc;

use candle_core::{DType, Result, Tensor};

use crate::error::bail;

/// One of several ranks that compute together: sums over ranks and broadcasts, by the collective operations of
/// an engine.
///
/// Engines are [`Threads`](super::Threads), within a process; `Mpi` and `Nccl`, behind the features of these names.
/// Operations are collective: every rank calls the same ones in the same order, with tensors of the same shapes
/// and dtypes. [`Threads`](super::Threads) gives an error on all ranks where they differ; MPI and NCCL give wrong
/// numbers or wait forever, so that [`DataParallel`](super::DataParallel) has ranks compare first.
///
/// Sums are of f32 and f64, broadcasts also of u8, u32 and i64. Each rank gets the same bits.
///
/// ```
/// use candle_core::{Device, Result, Tensor};
/// use hypernn::parallel::{AllReduce, Threads};
///
/// # fn main() -> Result<()> {
/// let sums = Threads::run(3, |rank| -> Result<_> {
///     let mut tensors = [Tensor::new(&[1f32, rank.rank() as f32], &Device::Cpu)?];
///     rank.all_reduce(&mut tensors)?;
///     tensors[0].to_vec1::<f32>()
/// })?;
/// assert_eq!(sums, [[3., 3.]; 3]);
/// # Ok(())
/// # }
/// ```
pub trait AllReduce {
    /// The number of this rank, from 0 on.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn size(&self) -> usize;

    /// Puts the sum over all ranks in the place of each tensor. Shapes, dtype and device stay.
    ///
    /// # Errors
    /// A dtype that can't be summed, or a rank that has ended.
    fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()>;

    /// Puts the tensors of rank `root` in the place of those of all others.
    ///
    /// # Errors
    /// A dtype that can't be sent, a rank that is not there, or one that has ended.
    fn broadcast(&self, tensors: &mut [Tensor], root: usize) -> Result<()>;

    /// This rank takes part in no operation from now on. Others that wait for it get an error with this reason, or
    /// are ended, as the engine can.
    fn leave(&self, reason: &str);
}

macro_rules! by_reference {
    ($($pointer:ty),*) => {$(
        impl<C: AllReduce + ?Sized> AllReduce for $pointer {
            fn rank(&self) -> usize {
                (**self).rank()
            }

            fn size(&self) -> usize {
                (**self).size()
            }

            fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()> {
                (**self).all_reduce(tensors)
            }

            fn broadcast(&self, tensors: &mut [Tensor], root: usize) -> Result<()> {
                (**self).broadcast(tensors, root)
            }

            fn leave(&self, reason: &str) {
                (**self).leave(reason);
            }
        }
    )*};
}

by_reference!(&C, Box<C>, Rc<C>, Arc<C>);

/// What an engine can sum.
pub(super) fn ensure_summable(tensor: &Tensor) -> Result<()> {
    match tensor.dtype() {
        DType::F32 | DType::F64 => Ok(()),
        dtype => bail!(dtype, "a sum over ranks of {dtype:?}, expected f32 or f64"),
    }
}

/// What an engine can broadcast, from a rank that is there.
pub(super) fn ensure_sendable(tensor: &Tensor, root: usize, size: usize) -> Result<()> {
    if root >= size {
        bail!(ranks, "a broadcast from rank {root}, expected one below {size}");
    }
    match tensor.dtype() {
        DType::F32 | DType::F64 | DType::U8 | DType::U32 | DType::I64 => Ok(()),
        dtype => bail!(dtype, "a broadcast of {dtype:?}, expected f32, f64, u8, u32 or i64"),
    }
}
