//! Files of reference values: see `golden/README.md`.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::relative_error;

/// A file of reference values.
#[derive(Debug)]
pub struct Golden(HashMap<String, Tensor>);

impl Golden {
    /// The file `golden/NAME.safetensors`.
    ///
    /// # Errors
    /// It can't be read.
    pub fn open(name: &str) -> Result<Self> {
        let path = format!("{}/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        Ok(Self(candle_core::safetensors::load(path, &Device::Cpu)?))
    }

    /// The tensor `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        match self.0.get(name) {
            Some(tensor) => Ok(tensor),
            None => bail!("no `{name}` in the file"),
        }
    }

    /// The tensor `name` in this dtype.
    ///
    /// # Errors
    /// There is none.
    pub fn as_dtype(&self, name: &str, dtype: DType) -> Result<Tensor> {
        self.get(name)?.to_dtype(dtype)
    }

    /// That `found` is the tensor `name`: the float64 one, where the file has it. Their shapes may
    /// differ by dimensions of one.
    ///
    /// # Errors
    /// It is not, within 1e-12 of the largest value in float64 and 2e-6 elsewhere.
    pub fn check(&self, name: &str, found: &Tensor) -> Result<()> {
        let exact = self.0.get(&format!("f64.{name}"));
        let bound = if exact.is_some() && found.dtype() == DType::F64 { 1e-12 } else { 2e-6 };
        let expected = match exact {
            Some(exact) => exact,
            None => self.get(name)?,
        };
        let error = relative_error(&squeezed(found)?, &squeezed(expected)?)?;
        if error.is_nan() || error > bound {
            bail!("{name} in {:?}: {error:e}, allowed {bound:e}", found.dtype());
        }
        Ok(())
    }
}

fn squeezed(tensor: &Tensor) -> Result<Tensor> {
    let dims: Vec<_> = tensor.dims().iter().copied().filter(|&dim| dim != 1).collect();
    tensor.reshape(dims)
}
