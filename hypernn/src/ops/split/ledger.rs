//! Where the slices' gradients meet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use candle_core::{DType, Device, Result, Storage, Tensor, bail};

use super::Segment;
use super::scalar::Scalar;

/// Gradients of the slices, of each backward pass that is under way.
pub(super) struct Ledger {
    sets: usize,
    /// Values per set, surplus included.
    width: usize,
    pub(super) segments: Arc<[Segment]>,
    /// A backward pass runs on one thread, so the thread names the pass.
    passes: Mutex<HashMap<ThreadId, Vec<Option<Tensor>>>>,
}

impl Ledger {
    pub(super) fn new(sets: usize, width: usize, segments: Arc<[Segment]>) -> Self {
        Self { sets, width, segments, passes: Mutex::default() }
    }

    fn passes(&self) -> MutexGuard<'_, HashMap<ThreadId, Vec<Option<Tensor>>>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files a slice's gradient; true where it is the pass's first.
    pub(super) fn file(&self, index: usize, grad: Tensor) -> bool {
        let mut passes = self.passes();
        let pass = passes.entry(std::thread::current().id()).or_default();
        // A slice comes once per pass: where it is there already, that pass failed half-way.
        if pass.get(index).is_some_and(Option::is_some) {
            pass.clear();
        }
        let first = pass.is_empty();
        pass.resize(self.segments.len(), None);
        pass[index] = Some(grad);
        first
    }

    /// The gradient of the whole vector, `[sets, width]`; ends the pass.
    pub(super) fn settle(&self) -> Result<Option<Tensor>> {
        let pass = self.passes().remove(&std::thread::current().id());
        let Some(grads) = pass else { return Ok(None) };
        let Some(first) = grads.iter().flatten().next() else { return Ok(None) };
        if first.device().is_cpu() {
            match first.dtype() {
                DType::F32 => return self.settle_cpu::<f32>(&grads).map(Some),
                DType::F64 => return self.settle_cpu::<f64>(&grads).map(Some),
                _ => {}
            }
        }
        self.settle_any(&grads, first).map(Some)
    }

    /// One pass over the values, where they can be written directly.
    fn settle_cpu<T: Scalar>(&self, grads: &[Option<Tensor>]) -> Result<Tensor> {
        let mut out = vec![T::default(); self.sets * self.width];
        for (segment, grad) in self.segments.iter().zip(grads) {
            let Some(grad) = grad else { continue };
            let grad = grad.contiguous()?;
            let (storage, layout) = grad.storage_and_layout();
            let Storage::Cpu(storage) = &*storage else {
                bail!("split: the gradient moved to another device");
            };
            let values = &storage.as_slice::<T>()?[layout.start_offset()..];
            let len = segment.len();
            for (set, values) in values.chunks_exact(len).take(self.sets).enumerate() {
                let start = set * self.width + segment.offset;
                T::scale(&mut out[start..start + len], values, segment.scale);
            }
        }
        Tensor::from_vec(out, (self.sets, self.width), &Device::Cpu)
    }

    /// The same of candle's operations, for every device and dtype.
    fn settle_any(&self, grads: &[Option<Tensor>], like: &Tensor) -> Result<Tensor> {
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
                Some(grad) if segment.scale == 1. => grad.reshape((self.sets, segment.len()))?,
                Some(grad) => {
                    grad.reshape((self.sets, segment.len()))?.affine(segment.scale, 0.)?
                }
            });
        }
        if self.width > end {
            parts.push(zeros(self.width - end)?);
        }
        Tensor::cat(&parts, 1)
    }
}
