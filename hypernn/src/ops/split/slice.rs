//! One tensor of the target, cut from the detached vector.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, D, Layout, MetalStorage, Result, Shape, Tensor,
    Var,
};

use super::below::zero;
use super::ledger::Ledger;
use super::Segment;
use crate::ops::scalar::Scalar;

/// Segment `index` of `values`, `[width]` or `[sets, width]`; its gradient goes to the ledger.
pub(super) fn slice(
    values: &Tensor,
    below: &Tensor,
    ledger: &Arc<Ledger>,
    index: usize,
    sets: Option<usize>,
) -> Result<Tensor> {
    let segment = &ledger.segments[index];
    let window = values.narrow(D::Minus1, segment.offset, segment.len())?;
    window.apply_op2(below, Slice { ledger: ledger.clone(), index, sets })
}

struct Slice {
    ledger: Arc<Ledger>,
    index: usize,
    sets: Option<usize>,
}

impl Slice {
    /// One pass on any device.
    fn cut<S: BackendStorage>(&self, values: &S, window: &Layout) -> Result<(S, Shape)> {
        let segment = &self.ledger.segments[self.index];
        let cut = values.affine(window, segment.scale, segment.shift)?;
        Ok((cut, segment.shape(self.sets)))
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
        let segment = &self.ledger.segments[self.index];
        match cut(values, window, segment) {
            Some(cut) => Ok((cut, segment.shape(self.sets))),
            None => self.cut(values, window),
        }
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
        let first = self.ledger.file(self.index, grad.clone())?;
        Ok((None, pass_token(first, below)?))
    }
}

/// A segment's values in the window `[len]` or `[sets, len]`; `None` for a dtype without passes of
/// its own.
fn cut(values: &CpuStorage, window: &Layout, segment: &Segment) -> Option<CpuStorage> {
    match values {
        CpuStorage::F32(values) => Some(CpuStorage::F32(cut_values(values, window, segment))),
        CpuStorage::F64(values) => Some(CpuStorage::F64(cut_values(values, window, segment))),
        _ => None,
    }
}

fn cut_values<T: Scalar>(values: &[T], window: &Layout, segment: &Segment) -> Vec<T> {
    let len = segment.len();
    let mut out = Vec::with_capacity(window.shape().elem_count());
    // A window of one dimension is one row.
    let (sets, stride) = match (window.dims(), window.stride()) {
        (&[sets, _], &[stride, _]) => (sets, stride),
        _ => (1, 0),
    };
    for set in 0..sets {
        let start = window.start_offset() + set * stride;
        T::affine(&mut out, &values[start..start + len], segment.scale, segment.shift);
    }
    out
}

/// The gradient that a slice gives the node below: a zero from the first of a pass, so that candle
/// reaches that node, and none from the others.
///
/// The zero carries `alive` in its graph. candle keeps it among the pass's gradients, and drops it
/// where the pass fails; so the ledger can tell a new pass from an old one that never ended.
pub(super) fn pass_token(alive: Option<Arc<()>>, below: &Tensor) -> Result<Option<Tensor>> {
    let Some(alive) = alive else { return Ok(None) };
    let zero = Var::zeros((), below.dtype(), below.device())?;
    zero.as_tensor().apply_op1(PassToken { _alive: alive }).map(Some)
}

struct PassToken {
    _alive: Arc<()>,
}

impl CustomOp1 for PassToken {
    fn name(&self) -> &'static str {
        "split"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        zero(storage, layout)
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        zero(storage, layout)
    }

    fn metal_fwd(&self, storage: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        zero(storage, layout)
    }
}
