//! How generated values become tensors: where each lies, its scale and shift, and their dtype.

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Result, Tensor};

use super::Slot;

/// Slots in order that do not overlap, and the dtype of the tensors.
#[derive(Clone, Debug)]
pub(crate) struct SplitPlan {
    pub(super) slots: Arc<[Slot]>,
    /// The tensors' dtype where one was chosen; else they have that of the generated values.
    dtype: Option<DType>,
    /// What was asked for last time: a hypernetwork has one dtype, device and width.
    factors: Arc<OnceLock<Factors>>,
}

/// The scale and the shift of every value, `[width]` each, where any differs from 1 and 0.
#[derive(Clone, Debug)]
pub(super) struct Factors {
    pub(super) scale: Option<Tensor>,
    pub(super) shift: Option<Tensor>,
    width: usize,
}

impl SplitPlan {
    /// Tensors of the values' own dtype.
    pub(crate) fn new(slots: impl Iterator<Item = Slot>) -> Self {
        Self { slots: slots.collect(), dtype: None, factors: Arc::default() }
    }

    /// Of these slots those of these numbers, in order.
    pub(crate) fn only(&self, numbers: impl IntoIterator<Item = usize>) -> Self {
        self.with_slots(numbers.into_iter().map(|number| self.slots[number].clone()))
    }

    /// Tensors of the same dtype in other slots.
    pub(super) fn with_slots(&self, slots: impl IntoIterator<Item = Slot>) -> Self {
        Self { dtype: self.dtype, ..Self::new(slots.into_iter()) }
    }

    /// Tensors of this dtype.
    #[must_use]
    pub(crate) fn with_dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// The dtype of the tensors, where it was chosen.
    pub(crate) fn dtype(&self) -> Option<DType> {
        self.dtype
    }

    /// `shift + scale × values`, cast: a launch each, where there is any to do. Values are `[width]`
    /// or `[sets, width]`, surplus included.
    pub(super) fn apply(&self, values: &Tensor, factors: &Factors) -> Result<Tensor> {
        let mut whole = values.clone();
        if let Some(scale) = &factors.scale {
            whole = whole.broadcast_mul(scale)?;
        }
        if let Some(shift) = &factors.shift {
            whole = whole.broadcast_add(shift)?;
        }
        whole.to_dtype(self.dtype.unwrap_or(values.dtype()))
    }

    /// The factors for `width` values of the dtype and on the device of `like`.
    pub(super) fn factors(&self, width: usize, like: &Tensor) -> Result<Factors> {
        if let Some(factors) = self.factors.get()
            && factors.serve(width, like)
        {
            return Ok(factors.clone());
        }
        let factors = self.new_factors(width, like)?;
        // Another thread may have been first; its factors are the same.
        let _ = self.factors.set(factors.clone());
        Ok(factors)
    }

    fn new_factors(&self, width: usize, like: &Tensor) -> Result<Factors> {
        let every = |neutral: f64, of: fn(&Slot) -> f64| {
            if self.slots.iter().all(|slot| of(slot) == neutral) {
                return Ok(None);
            }
            let mut values = vec![neutral; width];
            for slot in &*self.slots {
                values[slot.offset..slot.offset + slot.len()].fill(of(slot));
            }
            let values = Tensor::from_vec(values, width, &Device::Cpu)?;
            values.to_dtype(like.dtype())?.to_device(like.device()).map(Some)
        };
        let scale = every(1., |slot| slot.scale)?;
        Ok(Factors { scale, shift: every(0., |slot| slot.shift)?, width })
    }
}

impl Factors {
    fn serve(&self, width: usize, like: &Tensor) -> bool {
        let same = |factor: &Tensor| {
            factor.dtype() == like.dtype() && factor.device().same_device(like.device())
        };
        self.width == width && self.scale.iter().chain(&self.shift).all(same)
    }
}
