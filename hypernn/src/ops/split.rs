//! Cuts generated parameters into the target's tensors, with a backward that costs O(P).
//!
//! candle's own `narrow` pads its gradient with zeros to the length of the whole vector, once per
//! tensor: O(tensors × P). Here each tensor's gradient is put into a ledger as it arrives, and one
//! node below them all gives the ledger's content to the vector at once:
//!
//! ```text
//! generated ──► Below (one zero, no values) ──► Slice 0 ──► tensor 0
//!                                          ├──► Slice 1 ──► tensor 1
//!                                          └──► …
//! ```
//!
//! `Slice` reads its values from the detached vector, so that they are copied once, scaled and
//! shifted on the way. Its backward files the gradient and gives `Below` a zero once, so that
//! candle reaches that node, after all slices. A tensor that the loss does not reach counts as zero.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, D, Layout, MetalStorage, Result, Shape, Tensor,
};

/// One tensor of the target: `shift + scale × generated[offset..offset + len]`.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) offset: usize,
    pub(crate) dims: Vec<usize>,
    pub(crate) scale: f64,
    pub(crate) shift: f64,
}

impl Segment {
    fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether the values are taken as they are.
    fn is_plain(&self) -> bool {
        self.scale == 1. && self.shift == 0.
    }
}

/// Cuts `generated`, whose trailing dimensions hold the values of one set in flat order: all of
/// them, or all but the first where `sets` is given. Segments are in order and do not overlap;
/// what lies behind the last is surplus.
pub(crate) fn split(
    generated: &Tensor,
    sets: Option<usize>,
    segments: Arc<[Segment]>,
) -> Result<Vec<Tensor>> {
    let values = generated.detach().contiguous()?;
    let values = match sets {
        None => values.flatten_all()?,
        Some(sets) => values.reshape((sets, ()))?,
    };
    if !generated.track_op() {
        return segments.iter().map(|segment| view(&values, sets, segment)).collect();
    }
    let ledger = Arc::new(Ledger::new(sets.unwrap_or(1), values.dim(D::Minus1)?, segments));
    let below = generated.apply_op1(Below { ledger: ledger.clone() })?;
    (0..ledger.segments.len())
        .map(|index| {
            let segment = &ledger.segments[index];
            let window = values.narrow(D::Minus1, segment.offset, segment.len())?;
            window.apply_op2(&below, Slice { ledger: ledger.clone(), index, sets })
        })
        .collect()
}

/// Without gradients a tensor is a view of the vector, or one pass over its values.
fn view(values: &Tensor, sets: Option<usize>, segment: &Segment) -> Result<Tensor> {
    let window = values.narrow(D::Minus1, segment.offset, segment.len())?;
    let window = window.reshape(shape(sets, &segment.dims))?;
    if segment.is_plain() {
        return Ok(window);
    }
    window.affine(segment.scale, segment.shift)
}

fn shape(sets: Option<usize>, dims: &[usize]) -> Shape {
    Shape::from(sets.into_iter().chain(dims.iter().copied()).collect::<Vec<_>>())
}

/// Gradients of the slices, of each backward pass that is under way.
struct Ledger {
    sets: usize,
    /// Values per set, surplus included.
    width: usize,
    segments: Arc<[Segment]>,
    /// A backward pass runs on one thread, so the thread names the pass.
    passes: Mutex<HashMap<ThreadId, Vec<Option<Tensor>>>>,
}

impl Ledger {
    fn new(sets: usize, width: usize, segments: Arc<[Segment]>) -> Self {
        Self { sets, width, segments, passes: Mutex::default() }
    }

    fn passes(&self) -> MutexGuard<'_, HashMap<ThreadId, Vec<Option<Tensor>>>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files a slice's gradient; true where it is the pass's first.
    fn file(&self, index: usize, grad: Tensor) -> bool {
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
    fn settle(&self) -> Result<Option<Tensor>> {
        let pass = self.passes().remove(&std::thread::current().id());
        let Some(grads) = pass else { return Ok(None) };
        let Some(first) = grads.iter().flatten().next() else { return Ok(None) };
        if first.device().is_cpu() {
            match first.dtype() {
                candle_core::DType::F32 => return self.settle_cpu::<f32>(&grads).map(Some),
                candle_core::DType::F64 => return self.settle_cpu::<f64>(&grads).map(Some),
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
            let candle_core::Storage::Cpu(storage) = &*storage else {
                candle_core::bail!("split: the gradient moved to another device");
            };
            let values = &storage.as_slice::<T>()?[layout.start_offset()..];
            let len = segment.len();
            for (set, values) in values.chunks_exact(len).take(self.sets).enumerate() {
                let start = set * self.width + segment.offset;
                T::scale(&mut out[start..start + len], values, segment.scale);
            }
        }
        Tensor::from_vec(out, (self.sets, self.width), &candle_core::Device::Cpu)
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

/// What `settle_cpu` needs of a number.
trait Scalar: candle_core::WithDType + Default {
    fn scale(out: &mut [Self], values: &[Self], scale: f64);
}

impl Scalar for f32 {
    fn scale(out: &mut [Self], values: &[Self], scale: f64) {
        let scale = scale as f32;
        out.iter_mut().zip(values).for_each(|(out, value)| *out = value * scale);
    }
}

impl Scalar for f64 {
    fn scale(out: &mut [Self], values: &[Self], scale: f64) {
        out.iter_mut().zip(values).for_each(|(out, value)| *out = value * scale);
    }
}

/// The node below all slices: no values, and the gradient of the whole vector.
struct Below {
    ledger: Arc<Ledger>,
}

impl Below {
    fn zero<S: BackendStorage>(storage: &S, layout: &Layout) -> Result<(S, Shape)> {
        let first = Layout::contiguous_with_offset((), layout.start_offset());
        Ok((storage.affine(&first, 0., 0.)?, Shape::from(())))
    }
}

impl CustomOp1 for Below {
    fn name(&self) -> &'static str {
        "split"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Self::zero(storage, layout)
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Self::zero(storage, layout)
    }

    fn metal_fwd(&self, storage: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        Self::zero(storage, layout)
    }

    fn bwd(&self, generated: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        self.ledger.settle()?.map(|grad| grad.reshape(generated.shape())).transpose()
    }
}

/// One tensor of the target, cut from the detached vector.
struct Slice {
    ledger: Arc<Ledger>,
    index: usize,
    sets: Option<usize>,
}

impl Slice {
    fn cut<S: BackendStorage>(&self, values: &S, window: &Layout) -> Result<(S, Shape)> {
        let segment = &self.ledger.segments[self.index];
        let cut = values.affine(window, segment.scale, segment.shift)?;
        Ok((cut, shape(self.sets, &segment.dims)))
    }
}

impl CustomOp2 for Slice {
    fn name(&self) -> &'static str {
        "split"
    }

    fn cpu_fwd(
        &self,
        values: &CpuStorage,
        window: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.cut(values, window)
    }

    fn cuda_fwd(
        &self,
        values: &CudaStorage,
        window: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cut(values, window)
    }

    fn metal_fwd(
        &self,
        values: &MetalStorage,
        window: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        self.cut(values, window)
    }

    fn bwd(
        &self,
        _: &Tensor,
        below: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let first = self.ledger.file(self.index, grad.clone());
        Ok((None, first.then(|| below.zeros_like()).transpose()?))
    }
}
