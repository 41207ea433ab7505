//! Generated parameters with other values for a target that is already planned.

use candle_core::{DType, Result, Tensor, Var};

use super::scale::Scales;
use super::{GeneratedParams, Kept};
use crate::param::{KeptTensor, Param};

impl<T> GeneratedParams<T> {
    /// The dtype of the generated tensors, in which the target computes.
    pub fn dtype(&self) -> DType {
        // A layout has at least one parameter.
        self.params.first().map_or(DType::F32, Param::dtype)
    }

    /// These parameters with a copy of the running statistics, so that a forward pass in training leaves those
    /// of the hypernetwork as they are.
    pub(crate) fn with_own_buffers(&self) -> Result<Self> {
        let kept = Kept { buffers: self.copied_buffers(None)?.into(), ..self.kept.clone() };
        Ok(Self { kept, ..self.clone() })
    }

    /// Copies of the running statistics as variables, in `dtype`, or else in their own.
    fn copied_buffers(&self, dtype: Option<DType>) -> Result<Vec<Tensor>> {
        let copied = |buffer: &Tensor| {
            let buffer = buffer.detach().to_dtype(dtype.unwrap_or_else(|| buffer.dtype()))?;
            Ok(Var::from_tensor(&buffer.copy()?)?.into_inner())
        };
        self.kept.buffers.iter().map(copied).collect()
    }

    /// Parameters of the same target, whose generated tensors are cut from `flat`, `[P]` or `[G, P]`, in its
    /// dtype; no gradient flows to anything but `flat`.
    pub(crate) fn over(&self, flat: &Tensor) -> Result<Self> {
        let params = self.kept.params.iter().map(KeptTensor::detach).collect();
        let buffers = self.copied_buffers(Some(flat.dtype()))?.into();
        let kept = Kept { params, buffers, ..self.kept.clone() };
        let (plan, scales) = (self.plan.clone(), Scales::identity(self.layout()));
        let made = Self::from_generated(plan, &flat.clone().into(), self.sets, &scales, kept)?;
        Ok(Self { ranked: self.ranked.clone(), ..made })
    }

    /// The values of each generated tensor, of one set after the other.
    pub(crate) fn values(&self) -> Result<Vec<Vec<f64>>> {
        let values = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1();
        self.params.iter().map(Param::values).map(values).collect()
    }
}
