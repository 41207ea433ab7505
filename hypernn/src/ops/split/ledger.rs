//! Where the slices' gradients meet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

use candle_core::{DType, Device, Result, Tensor};
use hypernn_kernels::simd::dispatch;

use super::Segment;
use crate::ops::linear::product_over_rows;
use crate::ops::outer::outer_into;
use crate::ops::scalar::{Scalar, values};

/// Gradients of the slices, of each backward pass that is under way.
pub(super) struct Ledger {
    pub(super) sets: usize,
    /// Values per set, surplus included.
    pub(super) width: usize,
    pub(super) segments: Arc<[Segment]>,
    /// Of the generated values: tensors may have another.
    dtype: DType,
    /// The segments' scales in one tensor, `[width]`, where values are out of reach.
    scale: Option<Tensor>,
    /// A backward pass runs on one thread, so the thread names the pass.
    passes: Mutex<HashMap<ThreadId, Pass>>,
    /// What was filed in the passes of threads that watch.
    watched: Mutex<HashMap<ThreadId, Vec<Option<Filed>>>>,
}

/// The gradients filed so far, one place per segment.
#[derive(Default)]
struct Pass {
    /// Dead once candle has dropped the pass's gradients, as it does where the pass fails.
    alive: Weak<()>,
    grads: Vec<Option<Filed>>,
}

/// The gradient of a segment.
#[derive(Clone)]
pub(super) enum Filed {
    /// Of the segment's number of values per set.
    Whole(Tensor),
    /// Of a weight that met a few rows per set: `left [sets, rows, m]` and `right [sets, rows, n]`, whose
    /// product over the rows is computed where it is used.
    Product(Tensor, Tensor),
}

impl From<Tensor> for Filed {
    fn from(grad: Tensor) -> Self {
        Self::Whole(grad)
    }
}

impl Filed {
    fn to_dtype(&self, dtype: DType) -> Result<Self> {
        Ok(match self {
            Self::Whole(grad) => Self::Whole(grad.to_dtype(dtype)?),
            Self::Product(left, right) => {
                Self::Product(left.to_dtype(dtype)?, right.to_dtype(dtype)?)
            }
        })
    }

    pub(super) fn contiguous(&self) -> Result<Self> {
        Ok(match self {
            Self::Whole(grad) => Self::Whole(grad.contiguous()?),
            Self::Product(left, right) => Self::Product(left.contiguous()?, right.contiguous()?),
        })
    }

    fn tensor(&self) -> Result<Tensor> {
        match self {
            Self::Whole(grad) => Ok(grad.clone()),
            Self::Product(left, right) => product_over_rows(left, right),
        }
    }

    /// Whether it is differentiated again.
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

    fn plus(self, other: Self) -> Result<Self> {
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

impl Ledger {
    pub(super) fn new(
        (sets, width): (usize, usize),
        segments: Arc<[Segment]>,
        dtype: DType,
    ) -> Self {
        let (passes, watched) = (Mutex::default(), Mutex::default());
        Self { sets, width, segments, dtype, scale: None, passes, watched }
    }

    /// With the segments' scales in one tensor.
    pub(super) fn with_scale(mut self, scale: Option<Tensor>) -> Self {
        self.scale = scale;
        self
    }

    fn passes(&self) -> MutexGuard<'_, HashMap<ThreadId, Pass>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<ThreadId, Vec<Option<Filed>>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a backward pass on this thread, and gives what it filed for each segment.
    pub(super) fn watch<R>(
        &self,
        pass: impl FnOnce() -> Result<R>,
    ) -> Result<(R, Vec<Option<Tensor>>)> {
        let thread = std::thread::current().id();
        self.watched().insert(thread, vec![None; self.segments.len()]);
        let result = pass();
        let filed = self.watched().remove(&thread).unwrap_or_default();
        let tensor = |filed: Option<Filed>| filed.map(|filed| filed.tensor()).transpose();
        Ok((result?, filed.into_iter().map(tensor).collect::<Result<_>>()?))
    }

    /// Files a gradient of a segment, beside what is there already, in the values' dtype. For the
    /// first of a pass, gives
    /// what the pass must keep alive.
    pub(super) fn file(&self, index: usize, grad: Filed) -> Result<Option<Arc<()>>> {
        let grad = grad.to_dtype(self.dtype)?;
        let mut passes = self.passes();
        let pass = passes.entry(std::thread::current().id()).or_default();
        let first = (pass.alive.strong_count() == 0).then(|| Arc::new(()));
        if let Some(alive) = &first {
            let grads = vec![None; self.segments.len()];
            *pass = Pass { alive: Arc::downgrade(alive), grads };
        }
        pass.grads[index] = Some(match pass.grads[index].take() {
            None => grad,
            Some(sum) => sum.plus(grad)?,
        });
        Ok(first)
    }

    /// Ends the pass: the gradient of each segment that the loss reached.
    pub(super) fn settle(&self) -> Vec<Option<Filed>> {
        let thread = std::thread::current().id();
        let grads = self.passes().remove(&thread).map_or_else(Vec::new, |pass| pass.grads);
        if let Some(watched) = self.watched().get_mut(&thread) {
            watched.clone_from(&grads);
        }
        grads
    }

    /// The gradient of the whole vector, `[sets, width]`, from those of its segments.
    pub(super) fn whole(&self, grads: &[Option<Filed>]) -> Result<Option<Tensor>> {
        let Some(like) = grads.iter().flatten().next().map(Filed::like) else {
            return Ok(None);
        };
        let tracked = grads.iter().flatten().any(Filed::track_op);
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
    fn joined(&self, grads: &[Option<Filed>], like: &Tensor) -> Result<Tensor> {
        let zeros = |len| Tensor::zeros((self.sets, len), like.dtype(), like.device());
        let mut parts = Vec::with_capacity(2 * grads.len() + 1);
        let mut end = 0;
        for (segment, grad) in self.segments.iter().zip(grads) {
            if segment.offset > end {
                parts.push(zeros(segment.offset - end)?);
            }
            end = segment.offset + segment.len();
            parts.push(match grad {
                None => zeros(segment.len())?,
                Some(grad) => {
                    self.scaled(segment, grad.tensor()?.reshape((self.sets, segment.len()))?)?
                }
            });
        }
        if self.width > end {
            parts.push(zeros(self.width - end)?);
        }
        let whole = Tensor::cat(&parts, 1)?;
        self.scale.as_ref().map_or(Ok(whole.clone()), |scale| whole.broadcast_mul(scale))
    }

    /// Times the segment's scale, where that is not done for all segments at once.
    fn scaled(&self, segment: &Segment, grad: Tensor) -> Result<Tensor> {
        if self.scale.is_some() || segment.scale == 1. {
            return Ok(grad);
        }
        grad.affine(segment.scale, 0.)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(dims: &[usize]) -> Result<Tensor> {
        Tensor::randn(0., 1., dims, &Device::Cpu)
    }

    fn ledger() -> Ledger {
        let segment = |offset, len, scale| Segment { offset, dims: vec![len], scale, shift: 0. };
        let segments = [segment(0, 2, 1.), segment(3, 6, 0.5), segment(9, 1, 2.)];
        Ledger::new((3, 12), Arc::new(segments), DType::F64)
    }

    /// Both ways to the whole gradient agree: gaps, a surplus, scales, products over one row and over
    /// more, and segments without one.
    #[test]
    fn written_is_joined() -> Result<()> {
        for rows in [1, 4] {
            let product = Filed::Product(random(&[3, rows, 2])?, random(&[3, rows, 3])?);
            let grads = [Some(random(&[3, 2])?.into()), Some(product), None];
            let written = ledger().written::<f64>(&grads)?;
            let scale = [1., 1., 1., 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 2., 1., 1.];
            let scale = Tensor::new(&scale, &Device::Cpu)?;
            let joined = ledger().with_scale(Some(scale)).joined(&grads, &written)?;
            assert_close(&written, &joined)?;
        }
        Ok(())
    }

    /// Shared out among threads, in runs that cut tensors and products.
    #[test]
    fn many_values_are_written_in_runs() -> Result<()> {
        let sizes = [300 * 500, 7, 200_000];
        let mut width = 0;
        let segments = sizes.map(|len| {
            width += len;
            Segment { offset: width - len, dims: vec![len], scale: 0.5, shift: 0. }
        });
        let ledger = Ledger::new((1, width), Arc::new(segments), DType::F64);
        let product = Filed::Product(random(&[1, 3, 300])?, random(&[1, 3, 500])?);
        let grads = [Some(product), None, Some(random(&[200_000])?.into())];
        let written = ledger.written::<f64>(&grads)?;
        let scale = Tensor::full(0.5, width, &Device::Cpu)?;
        assert_close(&written, &ledger.with_scale(Some(scale)).joined(&grads, &written)?)
    }

    fn assert_close(found: &Tensor, expected: &Tensor) -> Result<()> {
        assert_eq!(found.dims(), expected.dims());
        let distance = (found - expected)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?;
        assert!(distance < 1e-12, "{distance}");
        Ok(())
    }

    #[test]
    fn products_filed_more_than_once_are_added_up() -> Result<()> {
        let ledger = ledger();
        let (left, right, whole) = (random(&[3, 1, 2])?, random(&[3, 1, 3])?, random(&[3, 2, 3])?);
        let product = Filed::Product(left.clone(), right.clone());
        let alive = ledger.file(1, product.clone())?;
        assert!(alive.is_some());
        assert!(ledger.file(1, whole.clone().into())?.is_none());
        assert!(ledger.file(1, product)?.is_none());
        let expected = (whole + (left.transpose(1, 2)?.matmul(&right)? * 2.)?)?;
        let found = ledger.settle()[1].as_ref().map(Filed::tensor).transpose()?;
        assert_close(&found.unwrap_or(expected.zeros_like()?), &expected)
    }
}
