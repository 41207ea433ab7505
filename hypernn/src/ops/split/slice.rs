//! One tensor of the target, cut from the detached vector.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, D, Layout, MetalStorage, Result, Shape, Tensor,
    Var, bail,
};

use super::Segment;
use super::below::zero;
use super::ledger::Ledger;
use super::pieces::pieces;
use crate::ops::scalar::{self, Scalar};

/// A segment of `values`, `[width]` or `[sets, width]`; its gradient goes to the ledger.
pub(super) fn slice(values: &Tensor, below: &Tensor, slice: Slice) -> Result<Tensor> {
    let segment = &slice.ledger.segments[slice.index];
    let window = values.narrow(D::Minus1, segment.offset, segment.len())?;
    window.apply_op2(below, slice)
}

pub(super) struct Slice {
    pub(super) ledger: Arc<Ledger>,
    pub(super) index: usize,
    pub(super) sets: Option<usize>,
    /// Of the generated rows, `[chunk]`, where the values are still without it.
    pub(super) bias: Option<Tensor>,
}

impl Slice {
    fn cut_values<T: Scalar>(&self, values: &[T], window: &Layout) -> Result<Vec<T>> {
        let segment = &self.ledger.segments[self.index];
        let mut out = Vec::with_capacity(window.shape().elem_count());
        // A window of one dimension is one row.
        let (sets, stride) = match (window.dims(), window.stride()) {
            (&[sets, _], &[stride, _]) => (sets, stride),
            _ => (1, 0),
        };
        let starts = (0..sets).map(|set| window.start_offset() + set * stride);
        let runs = starts.map(|start| &values[start..start + segment.len()]);
        match &self.bias {
            None => runs.for_each(|run| cut(&mut out, segment, run)),
            Some(bias) => scalar::values(bias, |bias: &[T]| {
                runs.for_each(|run| cut_with_bias(&mut out, segment, run, bias));
            })?,
        }
        Ok(out)
    }
}

fn cut<T: Scalar>(out: &mut Vec<T>, segment: &Segment, values: &[T]) {
    let (scale, shift) = (T::of(segment.scale), T::of(segment.shift));
    out.extend(values.iter().map(|&value| value * scale + shift));
}

fn cut_with_bias<T: Scalar>(out: &mut Vec<T>, segment: &Segment, values: &[T], bias: &[T]) {
    let (scale, shift) = (T::of(segment.scale), T::of(segment.shift));
    for piece in pieces(segment, bias.len()) {
        let pairs = values[piece.of_segment(segment)].iter().zip(&bias[piece.columns()]);
        out.extend(pairs.map(|(&value, &bias)| (value + bias) * scale + shift));
    }
}

/// Reached on the CPU alone, in f32 and f64: elsewhere tensors are views; see `whole`.
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
        let cut = match values {
            CpuStorage::F32(values) => CpuStorage::F32(self.cut_values(values, window)?),
            CpuStorage::F64(values) => CpuStorage::F64(self.cut_values(values, window)?),
            values => bail!("split: {:?}, expected one of f32 and f64", values.dtype()),
        };
        Ok((cut, self.ledger.segments[self.index].shape(self.sets)))
    }

    fn bwd(
        &self,
        _: &Tensor,
        below: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let first = self.ledger.file(self.index, grad.clone().into())?;
        Ok((None, pass_token(first, below)?))
    }
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
