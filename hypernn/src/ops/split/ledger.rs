//! Where the slices' gradients meet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

use candle_core::{DType, Device, Result, Tensor};

use super::Segment;
use crate::ops::scalar::{Scalar, values};

/// Gradients of the slices, of each backward pass that is under way.
pub(super) struct Ledger {
    sets: usize,
    /// Values per set, surplus included.
    width: usize,
    pub(super) segments: Arc<[Segment]>,
    /// A backward pass runs on one thread, so the thread names the pass.
    passes: Mutex<HashMap<ThreadId, Pass>>,
}

/// The gradients filed so far, one place per segment.
#[derive(Default)]
struct Pass {
    /// Dead once candle has dropped the pass's gradients, as it does where the pass fails.
    alive: Weak<()>,
    grads: Vec<Option<Tensor>>,
}

impl Ledger {
    pub(super) fn new(sets: usize, width: usize, segments: Arc<[Segment]>) -> Self {
        Self { sets, width, segments, passes: Mutex::default() }
    }

    fn passes(&self) -> MutexGuard<'_, HashMap<ThreadId, Pass>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files a gradient of a segment, beside what is there already. For the first of a pass, gives
    /// what the pass must keep alive.
    pub(super) fn file(&self, index: usize, grad: Tensor) -> Result<Option<Arc<()>>> {
        let mut passes = self.passes();
        let pass = passes.entry(std::thread::current().id()).or_default();
        let first = (pass.alive.strong_count() == 0).then(|| Arc::new(()));
        if let Some(alive) = &first {
            let grads = vec![None; self.segments.len()];
            *pass = Pass { alive: Arc::downgrade(alive), grads };
        }
        pass.grads[index] = Some(match pass.grads[index].take() {
            None => grad,
            Some(sum) => (sum.reshape(grad.shape())? + grad)?,
        });
        Ok(first)
    }

    /// Ends the pass: the gradient of each segment that the loss reached.
    pub(super) fn settle(&self) -> Vec<Option<Tensor>> {
        let pass = self.passes().remove(&std::thread::current().id());
        pass.map_or_else(Vec::new, |pass| pass.grads)
    }

    /// The gradient of the whole vector, `[sets, width]`, from those of its segments.
    pub(super) fn whole(&self, grads: &[Option<Tensor>]) -> Result<Option<Tensor>> {
        let Some(like) = grads.iter().flatten().next() else { return Ok(None) };
        let whole = match (like.device(), like.dtype()) {
            (Device::Cpu, DType::F32) => self.written::<f32>(grads),
            (Device::Cpu, DType::F64) => self.written::<f64>(grads),
            _ => self.joined(grads, like),
        };
        whole.map(Some)
    }

    /// In one pass, where the values can be written directly.
    fn written<T: Scalar>(&self, grads: &[Option<Tensor>]) -> Result<Tensor> {
        let mut out = vec![T::default(); self.sets * self.width];
        for (segment, grad) in self.segments.iter().zip(grads) {
            let Some(grad) = grad else { continue };
            let len = segment.len();
            values(&grad.contiguous()?, |grad: &[T]| {
                for (set, grad) in grad.chunks_exact(len).enumerate() {
                    let start = set * self.width + segment.offset;
                    T::scale(&mut out[start..start + len], grad, segment.scale);
                }
            })?;
        }
        Tensor::from_vec(out, (self.sets, self.width), &Device::Cpu)
    }

    /// Of candle's operations, for every device and dtype.
    fn joined(&self, grads: &[Option<Tensor>], like: &Tensor) -> Result<Tensor> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways to the whole gradient agree: gaps, a surplus, scales and segments without one.
    #[test]
    fn written_is_joined() -> Result<()> {
        let segment = |offset, len, scale| Segment { offset, dims: vec![len], scale, shift: 0. };
        let segments = [segment(0, 2, 1.), segment(3, 4, 0.5), segment(7, 1, 2.)];
        let ledger = Ledger::new(3, 10, Arc::new(segments));
        let grad = |len| Tensor::randn(0., 1., (3, len), &Device::Cpu).map(Some);
        let grads = [grad(2)?, grad(4)?, None];
        let (written, like) = (ledger.written::<f64>(&grads)?, grads[0].clone());
        let joined = ledger.joined(&grads, &like.unwrap_or(written.clone()))?;
        assert_eq!(written.to_vec2::<f64>()?, joined.to_vec2::<f64>()?);
        Ok(())
    }
}
