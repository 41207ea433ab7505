//! Which variables a hypernetwork took from its builder.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::memory::ensure_room;

type Variables = Arc<Mutex<Vec<(String, Tensor)>>>;

/// The variables taken so far, by the path below the builder that was given.
pub(super) struct TakenVariables(Variables);

impl TakenVariables {
    /// A builder that answers as `vb` does and remembers what it was asked for.
    pub(super) fn new(vb: VarBuilder<'_>) -> (Self, VarBuilder<'_>) {
        let names = Variables::default();
        let (dtype, device) = (vb.dtype(), vb.device().clone());
        let backend = VariableRecorder { vb, names: names.clone() };
        (Self(names), VarBuilder::from_backend(Box::new(backend), dtype, device))
    }

    pub(super) fn first(&self) -> Option<Tensor> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.first().map(|(_, tensor)| tensor.clone())
    }

    pub(super) fn into_vec(self) -> Vec<(String, Tensor)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct VariableRecorder<'a> {
    vb: VarBuilder<'a>,
    names: Variables,
}

impl SimpleBackend for VariableRecorder<'_> {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        _: &Device,
    ) -> Result<Tensor> {
        if !self.vb.contains_tensor(name) {
            ensure_room(|| format!("variable `{name}`"), shape.dims(), dtype, self.vb.device())?;
        }
        let tensor = self.vb.get_with_hints_dtype(shape, name, init, dtype)?;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.push((name.to_owned(), tensor.clone()));
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Device) -> Result<Tensor> {
        self.vb.get_unchecked_dtype(name, dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.vb.contains_tensor(name)
    }
}
