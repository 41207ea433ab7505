//! Ranks that are NVIDIA cards, by NCCL.

use std::cell::Cell;
use std::fmt;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::{DeviceRepr, ValidAsZeroBits};
use candle_core::cuda_backend::cudarc::nccl::result::NcclError;
use candle_core::cuda_backend::cudarc::nccl::safe::{Comm, Id, NcclType, ReduceOp};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor,
};

use super::agreement;
use super::all_reduce::{AllReduce, ensure_sendable, ensure_summable};
use crate::error::{bail, ranks};

/// The bytes of a group's identity.
const ID: usize = 128;

/// A rank that has an NVIDIA card to itself, by NCCL; with the feature `nccl`.
///
/// Ranks find each other by another engine: [`Threads`](super::Threads) for the cards of one machine, `Mpi` for those
/// of many. From then on tensors go from card to card. All are on the device of [`new`](Self::new), and so are the
/// variables of a [`DataParallel`](super::DataParallel).
///
/// # When a rank ends
/// An error within [`DataParallel`](super::DataParallel) is told to all ranks. NCCL itself has nobody that
/// notices a process that is gone: the launcher is to end the others, as `mpiexec` and `srun --kill-on-bad-exit=1` do.
pub struct Nccl {
    comm: Comm,
    device: Device,
    left: Cell<bool>,
}

impl Nccl {
    /// The same ranks as those of another engine, by which they agree on a group of NCCL's.
    ///
    /// ```no_run
    /// use candle_core::{Device, Result, Tensor};
    /// use hypernn::parallel::{AllReduce, Nccl, Threads};
    ///
    /// # fn main() -> Result<()> {
    /// // The first two cards of this machine.
    /// Threads::run(2, |rank| {
    ///     let device = Device::new_cuda(rank.rank())?;
    ///     let cards = Nccl::new(rank, &device)?;
    ///     let mut tensors = [Tensor::new(&[1f32, 2.], &device)?];
    ///     cards.all_reduce(&mut tensors)?;
    ///     assert_eq!(tensors[0].to_vec1::<f32>()?, [2., 4.]);
    ///     Result::Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The device is no CUDA device, or NCCL's own: all ranks say so.
    pub fn new<C: AllReduce + ?Sized>(ranks: &C, device: &Device) -> Result<Self> {
        let by = Device::Cpu;
        let own = cuda_stream(device).and_then(|stream| Ok((stream, identity(ranks.rank())?)));
        agreement::agree(&ranks, &by, own.as_ref().map(drop).map_err(crate::error::copied))?;
        let (stream, own_id) = own?;
        let mut id = [Tensor::from_vec(own_id, ID, &by)?];
        ranks.broadcast(&mut id, 0)?;
        let mut internal = [0; ID];
        let bytes = id[0].to_vec1::<u8>()?;
        internal.iter_mut().zip(bytes).for_each(|(to, from)| *to = from.cast_signed());
        // NCCL takes the card that is current on this thread.
        stream.context().bind_to_thread().map_err(candle_core::Error::wrap)?;
        let comm = Comm::from_rank(stream, ranks.rank(), ranks.size(), Id::uninit(internal));
        let comm = comm.map_err(|err| failed(&err));
        agreement::agree(&ranks, &by, comm.as_ref().map(drop).map_err(crate::error::copied))?;
        Ok(Self { comm: comm?, device: device.clone(), left: Cell::default() })
    }

    fn each(&self, tensors: &mut [Tensor], operation: Operation) -> Result<()> {
        for tensor in tensors.iter_mut().filter(|tensor| tensor.elem_count() > 0) {
            let exchange = Exchange { comm: &self.comm, operation };
            *tensor = tensor.contiguous()?.apply_op1_no_bwd(&exchange)?;
        }
        Ok(())
    }
}

impl AllReduce for Nccl {
    fn rank(&self) -> usize {
        self.comm.rank()
    }

    fn size(&self) -> usize {
        self.comm.world_size()
    }

    fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()> {
        tensors.iter().try_for_each(ensure_summable)?;
        self.each(tensors, Operation::Sum)
    }

    fn broadcast(&self, tensors: &mut [Tensor], root: usize) -> Result<()> {
        tensors.iter().try_for_each(|tensor| ensure_sendable(tensor, root, self.size()))?;
        self.each(tensors, Operation::Broadcast(i32::try_from(root).unwrap_or(i32::MAX)))
    }

    /// The others are ended by the launcher.
    fn leave(&self, _: &str) {
        self.left.set(true);
    }
}

/// What is under way is finished first, unless there is nobody to finish it with.
impl Drop for Nccl {
    fn drop(&mut self) {
        if !self.left.get() {
            // A card that has failed has said so before.
            let _ = self.device.synchronize();
        }
    }
}

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nccl").field("rank", &self.rank()).field("size", &self.size()).finish()
    }
}

#[derive(Clone, Copy)]
enum Operation {
    Sum,
    Broadcast(i32),
}

/// An operation over ranks as one of candle's, which gives the storage of a tensor.
struct Exchange<'a> {
    comm: &'a Comm,
    operation: Operation,
}

impl Exchange<'_> {
    fn of<T>(&self, storage: &CudaStorage, layout: &Layout) -> Result<CudaStorage>
    where
        T: CudaDType + NcclType + DeviceRepr + ValidAsZeroBits,
    {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!(shape, "NCCL takes values that lie one after the other")
        };
        let own = storage.as_cuda_slice::<T>()?.slice(start..end);
        let mut out = storage.device().alloc_zeros::<T>(end - start)?;
        let done = match self.operation {
            Operation::Sum => self.comm.all_reduce(&own, &mut out, &ReduceOp::Sum),
            Operation::Broadcast(root) => self.comm.broadcast(Some(&own), &mut out, root),
        };
        done.map_err(|err| failed(&err))?;
        Ok(CudaStorage::wrap_cuda_slice(out, storage.device().clone()))
    }
}

impl CustomOp1 for Exchange<'_> {
    fn name(&self) -> &'static str {
        "exchange"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!(device, "NCCL exchanges tensors of CUDA devices, but this one is on the CPU")
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let out = match storage.dtype() {
            DType::F32 => self.of::<f32>(storage, layout)?,
            DType::F64 => self.of::<f64>(storage, layout)?,
            DType::U8 => self.of::<u8>(storage, layout)?,
            DType::U32 => self.of::<u32>(storage, layout)?,
            _ => self.of::<i64>(storage, layout)?,
        };
        Ok((out, layout.shape().clone()))
    }
}

type Stream = std::sync::Arc<candle_core::cuda_backend::cudarc::driver::CudaStream>;

fn cuda_stream(device: &Device) -> Result<Stream> {
    match device {
        Device::Cuda(cuda) => Ok(cuda.cuda_stream()),
        other => bail!(device, "NCCL needs a CUDA device, found {:?}", other.location()),
    }
}

/// That of the group, from rank 0; nothing from others.
fn identity(rank: usize) -> Result<Vec<u8>> {
    if rank > 0 {
        return Ok(vec![0; ID]);
    }
    let id = Id::new().map_err(|err| failed(&err))?;
    Ok(id.internal().iter().map(|byte| byte.cast_unsigned()).collect())
}

fn failed(err: &NcclError) -> candle_core::Error {
    ranks(format!("NCCL failed: {err:?}"))
}
