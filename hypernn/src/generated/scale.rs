//! How generated values become tensors: scaled and shifted on the way, and put on what a tensor starts from.

use candle_core::{DType, Result, Tensor};

use crate::ops::split::{Slot, SplitPlan};
use crate::param::Param;
use crate::structure::layout::{Layout, ParamInfo};

/// How generated values become each tensor's values.
#[derive(Clone, Debug)]
pub(crate) struct Scales {
    pub(crate) plan: SplitPlan,
    /// What comes after the split, of the tensors that are more than a slot.
    pub(crate) bases: Vec<(usize, Base)>,
}

/// What a tensor starts from.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    /// What was generated first is taken off, and a start put in its place.
    First(Tensor, StartValue),
    /// What is generated, zero at first, is added to a tensor.
    Start(Tensor),
    /// What is generated is multiplied by one of the gains, zero at first, and added to a tensor.
    Gain { gains: Tensor, at: usize, start: Tensor },
}

#[derive(Clone, Debug)]
pub(crate) enum StartValue {
    Constant(f64),
    Tensor(Tensor),
}

impl Base {
    /// The first comes off first: what is left is zero at the start, whatever the rounding.
    pub(super) fn apply(&self, tensor: &Tensor) -> Result<Tensor> {
        let cast = |kept: &Tensor| kept.to_dtype(tensor.dtype());
        match self {
            Self::First(first, start) => start.put(&tensor.broadcast_sub(&cast(first)?)?),
            Self::Start(start) => tensor.broadcast_add(&cast(start)?),
            Self::Gain { gains, at, start } => {
                tensor.broadcast_mul(&cast(&gains.get(*at)?)?)?.broadcast_add(&cast(start)?)
            }
        }
    }

    /// A gain has a gradient of its own, and so has what another hypernetwork generated.
    fn keeps_gradient(&self) -> bool {
        match self {
            Self::First(first, start) => !first.track_op() && !start.track_op(),
            Self::Start(start) => !start.track_op(),
            Self::Gain { .. } => false,
        }
    }
}

impl StartValue {
    fn track_op(&self) -> bool {
        matches!(self, Self::Tensor(start) if start.track_op())
    }

    /// Adds it to the change from it.
    fn put(&self, change: &Tensor) -> Result<Tensor> {
        match self {
            Self::Constant(0.) => Ok(change.clone()),
            Self::Constant(value) => change + *value,
            Self::Tensor(start) => change.broadcast_add(&start.to_dtype(change.dtype())?),
        }
    }
}

impl Scales {
    /// Values are taken as they are generated.
    pub(crate) fn identity(layout: &Layout) -> Self {
        let slots = layout.params().iter().map(|param| slot(param, 0., 1.));
        Self { plan: SplitPlan::new(slots), bases: Vec::new() }
    }

    /// These scales, for a target whose tensors have this dtype.
    pub(crate) fn with_dtype(self, dtype: DType) -> Self {
        Self { plan: self.plan.with_dtype(dtype), ..self }
    }

    pub(crate) fn plan(&self) -> &SplitPlan {
        &self.plan
    }

    /// Puts the bases under parameters; those without one are as they should be already.
    pub(crate) fn with_bases(&self, mut params: Vec<Param>) -> Result<Vec<Param>> {
        for (index, base) in &self.bases {
            let param = &mut params[*index];
            *param = match base.keeps_gradient() {
                true => param.reshaped(|tensor| base.apply(tensor))?,
                false => base.apply(&param.collected()?)?.into(),
            };
        }
        Ok(params)
    }
}

pub(crate) fn slot(param: &ParamInfo, shift: f64, scale: f64) -> Slot {
    Slot { offset: param.offset, dims: param.shape.dims().to_vec(), scale, shift }
}
