//! Rows that are a shared row times a gain of each set: `gain[g, n] × shared[n] + bias`.
//!
//! The product of embeddings and weights is computed once for all sets, and no set's values are
//! held but in the target's own tensors. hyper-nn's dynamic embedding has this form.

use candle_core::{DType, Device, Result, Tensor};
use hypernn_kernels::simd::dispatch;
use hypernn_kernels::uninit::UninitWriter;

use super::Slot;
use super::pieces::{Piece, by_set, pieces, pieces_of};
use crate::ops::kernels::write_values;
use crate::ops::scalar::{Scalar, values};
use crate::param::PendingGradient;

/// What the values of all sets are made of, cut off from its graph.
#[derive(Clone, Debug)]
pub(super) struct ScaledRows {
    /// `[rows, chunk]`, the same for all sets.
    pub(super) shared: Tensor,
    /// `[sets, rows]`.
    pub(super) gains: Tensor,
    /// `[chunk]`.
    pub(super) bias: Tensor,
}

impl ScaledRows {
    pub(super) fn new(shared: &Tensor, gains: &Tensor, bias: &Tensor) -> Result<Self> {
        let part = |tensor: &Tensor| tensor.detach().contiguous();
        Ok(Self { shared: part(shared)?, gains: part(gains)?, bias: part(bias)? })
    }

    /// The values of a slot, those of every set one after the other.
    pub(super) fn cut<T: Scalar>(&self, slot: &Slot) -> Result<Vec<T>> {
        let (sets, rows) = self.gains.dims2()?;
        self.with_values(|shared: &[T], gains, bias| {
            write_values(sets * slot.len(), |range, out| {
                for (set, run) in by_set(slot, range) {
                    for piece in pieces_of(run, bias.len()) {
                        let gain = gains[set * rows + piece.row];
                        piece.cut(out, shared, bias, gain, slot);
                    }
                }
            })
        })?
    }

    fn with_values<T: Scalar, R>(&self, look: impl FnOnce(&[T], &[T], &[T]) -> R) -> Result<R> {
        values(&self.shared, |shared| {
            values(&self.gains, |gains| values(&self.bias, |bias| look(shared, gains, bias)))
        })??
    }

    /// The gradients of the parts, in one pass over those of the slots.
    pub(super) fn gradients(
        &self,
        slots: &[Slot],
        grads: &[Option<PendingGradient>],
    ) -> Result<Self> {
        match self.shared.dtype() {
            DType::F64 => self.gradients_of::<f64>(slots, grads),
            _ => self.gradients_of::<f32>(slots, grads),
        }
    }

    fn gradients_of<T: Scalar>(
        &self,
        slots: &[Slot],
        grads: &[Option<PendingGradient>],
    ) -> Result<Self> {
        let zeros = |tensor: &Tensor| vec![T::default(); tensor.elem_count()];
        let (mut shared, mut gains, mut bias) =
            (zeros(&self.shared), zeros(&self.gains), zeros(&self.bias));
        for (slot, grad) in slots.iter().zip(grads) {
            let Some(grad) = grad else { continue };
            self.add_gradients(slot, grad, &mut shared, &mut gains, &mut bias)?;
        }
        Ok(Self {
            shared: Tensor::from_vec(shared, self.shared.shape(), &Device::Cpu)?,
            gains: Tensor::from_vec(gains, self.gains.shape(), &Device::Cpu)?,
            bias: Tensor::from_vec(bias, self.bias.shape(), &Device::Cpu)?,
        })
    }

    fn add_gradients<T: Scalar>(
        &self,
        slot: &Slot,
        grad: &PendingGradient,
        shared_grad: &mut [T],
        gains_grad: &mut [T],
        bias_grad: &mut [T],
    ) -> Result<()> {
        let rows = self.gains.dim(1)?;
        self.with_values(|shared: &[T], gains, bias| {
            grad.each_set(slot.len(), |set, grad: &[T]| {
                for piece in pieces(slot, bias.len()) {
                    let at = set * rows + piece.row;
                    let (grad, row) = (&grad[piece.of_slot(slot)], &shared[piece.flat()]);
                    let row_grad = &mut shared_grad[piece.flat()];
                    let bias_grad = &mut bias_grad[piece.columns()];
                    gains_grad[at] += piece.add(grad, row, gains[at], row_grad, bias_grad, slot);
                }
            })
        })?
    }
}

impl Piece {
    /// `shift + scale × (gain × shared + bias)`, appended to `out`.
    fn cut<T: Scalar>(
        self,
        out: &mut UninitWriter<'_, T>,
        shared: &[T],
        bias: &[T],
        gain: T,
        slot: &Slot,
    ) {
        let (scale, shift) = (T::of(slot.scale), T::of(slot.shift));
        let gain = gain * scale;
        let pairs = shared[self.flat()].iter().zip(&bias[self.columns()]);
        dispatch(|| {
            out.extend(pairs.map(|(&shared, &bias)| gain * shared + (bias * scale + shift)))
        });
    }

    /// Adds to the gradients of the shared row and the bias; returns that of the gain.
    fn add<T: Scalar>(
        self,
        grad: &[T],
        shared: &[T],
        gain: T,
        shared_grad: &mut [T],
        bias_grad: &mut [T],
        slot: &Slot,
    ) -> T {
        let scale = T::of(slot.scale);
        let sums = shared_grad.iter_mut().zip(bias_grad);
        let all = grad.iter().zip(sums);
        dispatch(|| {
            all.for_each(|(&grad, (shared_grad, bias_grad))| {
                let grad = grad * scale;
                *shared_grad += grad * gain;
                *bias_grad += grad;
            });
        });
        T::of(T::dot(grad, shared) * slot.scale)
    }
}
