//! One tensor of the target, cut from what was generated.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Tensor, Var,
};
use pulp::NullaryFnOnce;

use super::Segment;
use super::below::zero;
use super::ledger::Ledger;
use super::pieces::pieces;
use super::scaled::Parts;
use crate::ops::scalar::{self, Scalar, wide};

/// What is cut, detached and contiguous.
#[derive(Clone)]
pub(super) enum Source {
    /// `sets × width` values, with the bias of the generated rows, `[chunk]`, where they are still
    /// without it.
    Values { values: Tensor, bias: Option<Tensor> },
    /// See `scaled`.
    Scaled(Parts),
}

/// A segment of every set; its gradient goes to the ledger.
///
/// It depends on the node below alone: candle has nothing to do with the values.
pub(super) struct Slice {
    pub(super) ledger: Arc<Ledger>,
    pub(super) index: usize,
    pub(super) sets: Option<usize>,
    pub(super) source: Source,
}

impl Slice {
    fn cut<T: Scalar>(&self) -> Result<Vec<T>> {
        let segment = &self.ledger.segments[self.index];
        match &self.source {
            Source::Scaled(parts) => parts.cut(segment),
            Source::Values { values, bias } => {
                scalar::values(values, |values: &[T]| self.cut_values(segment, values, bias))?
            }
        }
    }

    fn cut_values<T: Scalar>(
        &self,
        segment: &Segment,
        values: &[T],
        bias: &Option<Tensor>,
    ) -> Result<Vec<T>> {
        let (start, len) = (segment.offset, segment.len());
        let sets = self.sets.unwrap_or(1);
        let mut out = Vec::with_capacity(sets * len);
        let runs = values.chunks_exact(values.len() / sets).map(|set| &set[start..start + len]);
        match bias {
            None => runs.for_each(|run| cut(&mut out, segment, run)),
            Some(bias) => scalar::values(bias, |bias: &[T]| {
                runs.for_each(|values| wide(WithBias { out: &mut out, segment, values, bias }));
            })?,
        }
        Ok(out)
    }
}

fn cut<T: Scalar>(out: &mut Vec<T>, segment: &Segment, values: &[T]) {
    let (scale, shift) = (T::of(segment.scale), T::of(segment.shift));
    wide(|| out.extend(values.iter().map(|&value| value * scale + shift)));
}

/// Appends the values of a segment with the bias of the rows that they lie in.
struct WithBias<'a, T> {
    out: &'a mut Vec<T>,
    segment: &'a Segment,
    values: &'a [T],
    bias: &'a [T],
}

impl<T: Scalar> NullaryFnOnce for WithBias<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { out, segment, values, bias } = self;
        let (scale, shift) = (T::of(segment.scale), T::of(segment.shift));
        let plain = segment.is_plain();
        for piece in pieces(segment, bias.len()) {
            let pairs = values[piece.of_segment(segment)].iter().zip(&bias[piece.columns()]);
            if plain {
                out.extend(pairs.map(|(&value, &bias)| value + bias));
            } else {
                out.extend(pairs.map(|(&value, &bias)| (value + bias) * scale + shift));
            }
        }
    }
}

/// Reached on the CPU alone, in f32 and f64: elsewhere tensors are views; see `whole`.
impl CustomOp1 for Slice {
    fn name(&self) -> &'static str {
        "split"
    }

    fn cpu_fwd(&self, below: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let cut = match below {
            CpuStorage::F64(_) => CpuStorage::F64(self.cut()?),
            _ => CpuStorage::F32(self.cut()?),
        };
        Ok((cut, self.ledger.segments[self.index].shape(self.sets)))
    }

    fn bwd(&self, below: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        pass_token(self.ledger.file(self.index, grad.clone().into())?, below)
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

    fn cpu_fwd(&self, storage: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        zero(storage)
    }

    fn cuda_fwd(&self, storage: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        zero(storage)
    }

    fn metal_fwd(&self, storage: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        zero(storage)
    }
}
