//! One tensor of the target, cut from what was generated.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Tensor, Var,
};
use pulp::NullaryFnOnce;

use super::Segment;
use super::below::zero;
use super::ledger::Ledger;
use super::pieces::{by_set, pieces_of};
use super::scaled::Parts;
use crate::ops::pool::{self, Places};
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
        let sets = self.sets.unwrap_or(1);
        let (len, width) = (sets * segment.len(), values.len() / sets);
        let write = |range, out: &mut Places<'_, T>, bias: Option<&[T]>| {
            for (set, run) in by_set(segment, range) {
                let values = &values[set * width..][..width];
                match bias {
                    None => scaled(out, segment, &values[run]),
                    Some(bias) => wide(WithBias { out, segment, values, run, bias }),
                }
            }
        };
        let Some(bias) = bias else {
            return Ok(pool::written(len, |range, out| write(range, out, None)));
        };
        scalar::values(bias, |bias: &[T]| {
            pool::written(len, |range, out| write(range, out, Some(bias)))
        })
    }
}

fn scaled<T: Scalar>(out: &mut Places<'_, T>, segment: &Segment, values: &[T]) {
    let (scale, shift) = (T::of(segment.scale), T::of(segment.shift));
    wide(|| out.extend(values.iter().map(|&value| value * scale + shift)));
}

/// Appends a run of a set's values with the bias of the rows that they lie in.
struct WithBias<'a, 'b, T> {
    out: &'a mut Places<'b, T>,
    segment: &'a Segment,
    values: &'a [T],
    run: Range<usize>,
    bias: &'a [T],
}

impl<T: Scalar> NullaryFnOnce for WithBias<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { out, segment, values, run, bias } = self;
        let (scale, shift) = (T::of(segment.scale), T::of(segment.shift));
        let plain = segment.is_plain();
        for piece in pieces_of(run, bias.len()) {
            let pairs = values[piece.flat()].iter().zip(&bias[piece.columns()]);
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
