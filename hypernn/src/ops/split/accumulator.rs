//! Where the gradients of all tensors of a split meet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

use candle_core::{DType, Device, Result, Tensor};
use hypernn_kernels::simd::dispatch;

use super::Slot;
use super::slice::pass_token;
use crate::ops::outer::outer_into;
use crate::ops::product::product_over_rows;
use crate::ops::scalar::{Scalar, values};
use crate::param::{Accumulator, PendingGradient};

/// Gradients of the tensors, of each backward pass that is under way.
pub(super) struct GradientAccumulator {
    pub(super) sets: usize,
    /// Values per set, surplus included.
    pub(super) width: usize,
    pub(super) slots: Arc<[Slot]>,
    /// The dtype of the generated values; tensors may have another.
    dtype: DType,
    /// The slots' scales in one tensor, `[width]`, where values are out of reach.
    scale: Option<Tensor>,
    /// A backward pass runs on one thread, so the thread names the pass.
    passes: Mutex<HashMap<ThreadId, Pass>>,
    /// What was delivered in the passes of threads that watch.
    watched: Mutex<HashMap<ThreadId, Vec<Option<PendingGradient>>>>,
}

/// The gradients delivered so far, one place per slot.
#[derive(Default)]
struct Pass {
    /// Dead once candle has dropped the pass's gradients, as it does where the pass fails.
    alive: Weak<()>,
    grads: Vec<Option<PendingGradient>>,
}

impl PendingGradient {
    fn to_dtype(&self, dtype: DType) -> Result<Self> {
        Ok(match self {
            Self::Whole(grad) => Self::Whole(grad.to_dtype(dtype)?),
            Self::Product(left, right) => {
                Self::Product(left.to_dtype(dtype)?, right.to_dtype(dtype)?)
            }
        })
    }

    pub(super) fn detach(&self) -> Self {
        match self {
            Self::Whole(grad) => Self::Whole(grad.detach()),
            Self::Product(left, right) => Self::Product(left.detach(), right.detach()),
        }
    }

    pub(super) fn contiguous(&self) -> Result<Self> {
        Ok(match self {
            Self::Whole(grad) => Self::Whole(grad.contiguous()?),
            Self::Product(left, right) => Self::Product(left.contiguous()?, right.contiguous()?),
        })
    }

    pub(super) fn tensor(&self) -> Result<Tensor> {
        match self {
            Self::Whole(grad) => Ok(grad.clone()),
            Self::Product(left, right) => product_over_rows(left, right),
        }
    }

    /// Whether the gradient is differentiated again.
    fn track_op(&self) -> bool {
        match self {
            Self::Whole(grad) => grad.track_op(),
            Self::Product(left, right) => left.track_op() || right.track_op(),
        }
    }

    /// A tensor of the same dtype on the same device.
    fn like(&self) -> &Tensor {
        match self {
            Self::Whole(grad) | Self::Product(grad, _) => grad,
        }
    }

    pub(super) fn plus(self, other: Self) -> Result<Self> {
        let (sum, grad) = (self.tensor()?, other.tensor()?);
        (sum.reshape(grad.shape())? + grad).map(Self::Whole)
    }

    /// Calls `look` with the values of each set, `len` of them; on the CPU.
    pub(super) fn each_set<T: Scalar>(
        &self,
        len: usize,
        mut look: impl FnMut(usize, &[T]),
    ) -> Result<()> {
        match self {
            Self::Product(left, right) if left.dim(1)? == 1 => each_outer(left, right, look),
            grad => values(&grad.tensor()?.contiguous()?, |grad: &[T]| {
                grad.chunks_exact(len).enumerate().for_each(|(set, grad)| look(set, grad));
            }),
        }
    }
}

/// Calls `look` with the product of one row by one row of each set.
fn each_outer<T: Scalar>(
    left: &Tensor,
    right: &Tensor,
    mut look: impl FnMut(usize, &[T]),
) -> Result<()> {
    let (left, right) = (left.contiguous()?, right.contiguous()?);
    let (m, n) = (left.dim(2)?, right.dim(2)?);
    let mut product = Vec::with_capacity(m * n);
    values(&left, |left: &[T]| {
        values(&right, |right: &[T]| {
            let sets = left.chunks_exact(m).zip(right.chunks_exact(n));
            for (set, (left, right)) in sets.enumerate() {
                product.clear();
                dispatch(|| outer_into(&mut product, left, right));
                look(set, &product);
            }
        })
    })?
}

impl Accumulator for GradientAccumulator {
    fn add(&self, slot: usize, gradient: PendingGradient, edge: &Tensor) -> Result<Option<Tensor>> {
        pass_token(self.file(slot, gradient)?, edge)
    }
}

impl GradientAccumulator {
    pub(super) fn new(sets: usize, width: usize, slots: Arc<[Slot]>, dtype: DType) -> Self {
        let (passes, watched) = (Mutex::default(), Mutex::default());
        Self { sets, width, slots, dtype, scale: None, passes, watched }
    }

    /// This accumulator with the slots' scales in one tensor, `[width]`.
    pub(super) fn with_scale(mut self, scale: Option<Tensor>) -> Self {
        self.scale = scale;
        self
    }

    fn passes(&self) -> MutexGuard<'_, HashMap<ThreadId, Pass>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<ThreadId, Vec<Option<PendingGradient>>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a backward pass on this thread, and gives what it delivered for each slot.
    pub(super) fn watch<R>(
        &self,
        pass: impl FnOnce() -> Result<R>,
    ) -> Result<(R, Vec<Option<Tensor>>)> {
        let thread = std::thread::current().id();
        self.watched().insert(thread, vec![None; self.slots.len()]);
        let result = pass();
        let delivered = self.watched().remove(&thread).unwrap_or_default();
        let tensor = |delivered: Option<PendingGradient>| {
            delivered.map(|delivered| delivered.tensor()).transpose()
        };
        Ok((result?, delivered.into_iter().map(tensor).collect::<Result<_>>()?))
    }

    /// Files a gradient of a slot, beside what is there already, in the values' dtype. For the first of a pass, gives
    /// what the pass must keep alive.
    pub(super) fn file(&self, index: usize, grad: PendingGradient) -> Result<Option<Arc<()>>> {
        let grad = grad.to_dtype(self.dtype)?;
        let mut passes = self.passes();
        let pass = passes.entry(std::thread::current().id()).or_default();
        let first = (pass.alive.strong_count() == 0).then(|| Arc::new(()));
        if let Some(alive) = &first {
            let grads = vec![None; self.slots.len()];
            *pass = Pass { alive: Arc::downgrade(alive), grads };
        }
        let Some(sum) = pass.grads[index].take() else {
            pass.grads[index] = Some(grad);
            return Ok(first);
        };
        // A sum may take a product first, which no other pass is to wait for.
        drop(passes);
        self.put(index, sum.plus(grad)?);
        Ok(first)
    }

    /// Puts back a gradient that was taken out. Only this thread has to do with its pass.
    fn put(&self, index: usize, grad: PendingGradient) {
        if let Some(pass) = self.passes().get_mut(&std::thread::current().id()) {
            pass.grads[index] = Some(grad);
        }
    }

    /// Ends the pass: the gradient of each slot that the loss reached.
    pub(super) fn settle(&self) -> Vec<Option<PendingGradient>> {
        let thread = std::thread::current().id();
        let grads = self.passes().remove(&thread).map_or_else(Vec::new, |pass| pass.grads);
        if let Some(watched) = self.watched().get_mut(&thread) {
            watched.clone_from(&grads);
        }
        grads
    }

    /// The gradient of the whole vector, `[sets, width]`, from those of its slots.
    pub(super) fn whole(&self, grads: &[Option<PendingGradient>]) -> Result<Option<Tensor>> {
        let Some(like) = grads.iter().flatten().next().map(PendingGradient::like) else {
            return Ok(None);
        };
        let tracked = grads.iter().flatten().any(PendingGradient::track_op);
        let whole = match (like.device(), like.dtype()) {
            _ if tracked => self.joined(grads, like),
            (Device::Cpu, DType::F32) => self.written::<f32>(grads),
            (Device::Cpu, DType::F64) => self.written::<f64>(grads),
            _ => self.joined(grads, like),
        };
        whole.map(Some)
    }

    /// Of candle's operations, for every device and dtype, and for gradients that are differentiated
    /// again.
    fn joined(&self, grads: &[Option<PendingGradient>], like: &Tensor) -> Result<Tensor> {
        let zeros = |len| Tensor::zeros((self.sets, len), like.dtype(), like.device());
        let mut parts = Vec::with_capacity(2 * grads.len() + 1);
        let mut end = 0;
        for (slot, grad) in self.slots.iter().zip(grads) {
            if slot.offset > end {
                parts.push(zeros(slot.offset - end)?);
            }
            end = slot.offset + slot.len();
            parts.push(match grad {
                None => zeros(slot.len())?,
                Some(grad) => {
                    self.scaled(slot, grad.tensor()?.reshape((self.sets, slot.len()))?)?
                }
            });
        }
        if self.width > end {
            parts.push(zeros(self.width - end)?);
        }
        let whole = Tensor::cat(&parts, 1)?;
        self.scale.as_ref().map_or(Ok(whole.clone()), |scale| whole.broadcast_mul(scale))
    }

    /// Times the slot's scale, where that is not done for all slots at once.
    fn scaled(&self, slot: &Slot, grad: Tensor) -> Result<Tensor> {
        if self.scale.is_some() || slot.scale == 1. {
            return Ok(grad);
        }
        grad.affine(slot.scale, 0.)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::StorageRef;

    use super::*;

    fn random(dims: &[usize]) -> Result<Tensor> {
        Tensor::randn(0., 1., dims, &Device::Cpu)
    }

    fn accumulator() -> GradientAccumulator {
        let slot = |offset, len, scale| Slot { offset, dims: vec![len], scale, shift: 0. };
        let slots = [slot(0, 2, 1.), slot(3, 6, 0.5), slot(9, 1, 2.)];
        GradientAccumulator::new(3, 12, Arc::new(slots), DType::F64)
    }

    /// Both ways to the whole gradient agree: gaps, a surplus, scales, products over one row and over
    /// more, and slots without one.
    #[test]
    fn written_is_joined() -> Result<()> {
        for rows in [1, 4] {
            let product = PendingGradient::Product(random(&[3, rows, 2])?, random(&[3, rows, 3])?);
            let grads = [Some(random(&[3, 2])?.into()), Some(product), None];
            let written = accumulator().written::<f64>(&grads)?;
            let scale = [1., 1., 1., 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 2., 1., 1.];
            let scale = Tensor::new(&scale, &Device::Cpu)?;
            let joined = accumulator().with_scale(Some(scale)).joined(&grads, &written)?;
            assert_close(&written, &joined)?;
        }
        Ok(())
    }

    /// Shared out among threads, in runs that cut tensors and products.
    #[test]
    fn many_values_are_written_in_runs() -> Result<()> {
        let sizes = [300 * 500, 7, 200_000];
        let mut width = 0;
        let slots = sizes.map(|len| {
            width += len;
            Slot { offset: width - len, dims: vec![len], scale: 0.5, shift: 0. }
        });
        let accumulator = GradientAccumulator::new(1, width, Arc::new(slots), DType::F64);
        let product = PendingGradient::Product(random(&[1, 3, 300])?, random(&[1, 3, 500])?);
        let grads = [Some(product), None, Some(random(&[200_000])?.into())];
        let written = accumulator.written::<f64>(&grads)?;
        let scale = Tensor::full(0.5, width, &Device::Cpu)?;
        assert_close(&written, &accumulator.with_scale(Some(scale)).joined(&grads, &written)?)
    }

    fn assert_close(found: &Tensor, expected: &Tensor) -> Result<()> {
        assert_eq!(found.dims(), expected.dims());
        let distance = (found - expected)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?;
        assert!(distance < 1e-12, "{distance}");
        Ok(())
    }

    /// Another pass files while a product is computed: here the product waits for one of its sides, which is locked.
    #[test]
    fn products_are_computed_outside_of_the_lock() -> Result<()> {
        use std::sync::mpsc::channel;
        use std::time::Duration;

        let (accumulator, left) = (accumulator(), random(&[3, 1, 2])?);
        let product = PendingGradient::Product(left.clone(), random(&[3, 1, 3])?);
        let (other, lock) = (random(&[3, 2])?, StorageRef::rwlock(&left.storage_and_layout().0));
        let (at_product, waits) = channel();
        let (has_delivered, delivered) = channel();
        let held = lock.write();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let first = accumulator.file(1, product.clone());
                at_product.send(()).ok();
                accumulator.file(1, product).and(first)
            });
            waits.recv().ok();
            std::thread::sleep(Duration::from_millis(50));
            scope.spawn(|| has_delivered.send(accumulator.file(0, other.into()).is_ok()));
            let in_time = delivered.recv_timeout(Duration::from_secs(20));
            drop(held);
            assert_eq!(in_time, Ok(true));
        });
        Ok(())
    }

    #[test]
    fn products_filed_more_than_once_are_added_up() -> Result<()> {
        let accumulator = accumulator();
        let (left, right, whole) = (random(&[3, 1, 2])?, random(&[3, 1, 3])?, random(&[3, 2, 3])?);
        let product = PendingGradient::Product(left.clone(), right.clone());
        let alive = accumulator.file(1, product.clone())?;
        assert!(alive.is_some());
        assert!(accumulator.file(1, whole.clone().into())?.is_none());
        assert!(accumulator.file(1, product)?.is_none());
        let expected = (whole + (left.transpose(1, 2)?.matmul(&right)? * 2.)?)?;
        let found = accumulator.settle()[1].as_ref().map(PendingGradient::tensor).transpose()?;
        assert_close(&found.unwrap_or(expected.zeros_like()?), &expected)
    }
}
