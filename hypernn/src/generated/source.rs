//! The tensors of a target over generated parameters, in the order of its layout.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::GeneratedParams;
use crate::ops::internal;
use crate::param::{Adapter, KeptTensor, Param};
use crate::structure::layout::Location;
use crate::structure::source::{BufferDtype, ParamSource, ParamSpec};
use crate::structure::value::Made;

/// Serves tensors in the order of the layout.
pub(super) struct GeneratedSource<'a> {
    places: std::slice::Iter<'a, (String, Location)>,
    generated: &'a [Param],
    kept: &'a [KeptTensor],
    buffers: std::slice::Iter<'a, Tensor>,
    values: std::slice::Iter<'a, Tensor>,
    made: std::slice::Iter<'a, Made>,
    sets: Option<usize>,
    buffer_sets: Option<usize>,
    train: bool,
}

impl<'a> GeneratedSource<'a> {
    pub(super) fn new<T>(params: &'a GeneratedParams<T>, train: bool) -> Self {
        Self {
            places: params.layout().places().iter(),
            generated: &params.params,
            kept: &params.kept.params,
            buffers: params.kept.buffers.iter(),
            values: params.kept.values.iter(),
            made: params.plan.values.made.iter(),
            sets: params.sets,
            buffer_sets: params.kept.buffer_sets,
            train,
        }
    }

    /// A parameter, perhaps with an adapter.
    pub(super) fn find(&self, name: &str, place: Location) -> Result<Param> {
        match place {
            Location::Generated(index) => Ok(self.generated[index].clone()),
            Location::Kept(base) => self.kept(name, base)?.param(),
            Location::Adapted { base, down, scale, dropout } => {
                let dropout = if self.train { dropout } else { 0. };
                let factor = |index: usize| self.generated[index].clone();
                let adapter = Adapter { down: factor(down), up: factor(down + 1), scale, dropout };
                let param = self.kept(name, base)?.param()?.with_adapter(adapter);
                Ok(if dropout > 0. { param.with_dropout(name) } else { param })
            }
        }
    }

    /// A tensor that the hypernetwork keeps, in the dtype of those that it generates.
    fn kept(&self, name: &str, index: usize) -> Result<KeptTensor> {
        let Some(tensor) = self.kept.get(index) else {
            crate::error::bail!(
                declaration,
                "`{name}` is not generated: a hypernetwork keeps it, and a flat vector does not hold it; the hypernetwork's `params_from_flat` adds it"
            )
        };
        self.generated.first().map_or(Ok(tensor.clone()), |like| tensor.to_dtype(like.dtype()))
    }

    fn check(&self, spec: &ParamSpec<'_>, found: &[usize], sets: Option<usize>) -> Result<()> {
        let skip = usize::from(sets.is_some());
        if found.get(skip..) != Some(spec.dims) {
            crate::error::bail!(
                declaration,
                "`{}` of shape {:?} was asked for, but the layout has shape {:?} there: the target's sizes changed after its layout was taken",
                spec.name,
                spec.dims,
                found
            );
        }
        Ok(())
    }
}

impl ParamSource for GeneratedSource<'_> {
    fn enter(&mut self, _name: &str) {}

    fn leave(&mut self) {}

    fn param(&mut self, spec: &ParamSpec<'_>) -> Result<Param> {
        let Some((name, place)) = self.places.next() else {
            crate::error::bail!(
                declaration,
                "`{}` was asked for, but the layout has no more parameters",
                spec.name
            );
        };
        let sets = self.sets.filter(|_| matches!(place, Location::Generated(_)));
        let param = self.find(name, *place)?;
        self.check(spec, param.dims(), sets)?;
        Ok(param)
    }

    /// The variable itself where the layer can compute with it, which it then also changes.
    fn buffer_of(&mut self, spec: &ParamSpec<'_>, dtype: BufferDtype) -> Result<Tensor> {
        let buffer = self.buffer(spec)?;
        // A layout has at least one parameter.
        let params = self.generated[0].dtype();
        match dtype {
            BufferDtype::Any => Ok(buffer),
            BufferDtype::Fixed(dtype) => buffer.to_dtype(dtype),
            // In training, candle computes in this dtype.
            BufferDtype::Params if self.train && buffer.dtype() == internal(params) => Ok(buffer),
            BufferDtype::Params => buffer.to_dtype(params),
        }
    }

    fn fixed(&mut self, _name: &str, make: &mut dyn FnMut() -> Result<Tensor>) -> Result<Tensor> {
        self.values.next().map_or_else(make, |tensor| Ok(tensor.clone()))
    }

    fn made(&mut self, make: &mut dyn FnMut() -> Made) -> Made {
        self.made.next().map_or_else(make, Arc::clone)
    }

    /// Buffers start afresh where the hypernetwork keeps none.
    fn buffer(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        match self.buffers.next() {
            Some(tensor) => {
                self.check(spec, tensor.dims(), self.buffer_sets)?;
                Ok(tensor.clone())
            }
            None => {
                // A layout has at least one parameter.
                let like = &self.generated[0];
                Ok(spec.init.var(spec.dims, like.dtype(), like.device())?.into_inner())
            }
        }
    }
}
