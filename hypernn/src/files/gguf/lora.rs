//! Low-rank adapters as llama.cpp loads them (`--lora`): a GGUF file of factors beside that of a model.
//!
//! The form is that of llama.cpp's `convert_lora_to_gguf.py`.

use std::io::Cursor;
use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{DType, Result, Tensor};

use super::names::Names;
use super::{Gguf, Value};
use crate::error::bail;
use crate::files;

/// The file of one adapter.
pub(crate) struct GgufLora<'a> {
    base: &'a Gguf,
    architecture: &'a str,
    alpha: f64,
    tensors: Vec<(String, QTensor)>,
}

impl<'a> GgufLora<'a> {
    /// One over a model, for which `alpha / rank` is the factor of every difference.
    ///
    /// # Errors
    /// The model does not say what it is.
    pub(crate) fn new(base: &'a Gguf, alpha: f64) -> Result<Self> {
        Ok(Self { base, architecture: base.architecture()?, alpha, tensors: Vec::new() })
    }

    /// Adds the factors `[r, in]` and `[out, r]` of a module.
    ///
    /// # Errors
    /// The model has no such module, or one of another shape.
    pub(crate) fn add(&mut self, module: &str, down: &Tensor, up: &Tensor) -> Result<()> {
        let names = Names::of(self.architecture);
        let name = match names {
            Some(names) => names.llama_cpp(module),
            None => Some(module.to_owned()),
        };
        let weight = name.as_deref().map(|name| format!("{name}.weight"));
        let found = weight.as_deref().and_then(|weight| Some((weight, self.base.shape(weight)?)));
        let Some((weight, dims)) = found else {
            bail!(
                layout,
                "`{module}` is no module of the model, whose architecture is `{}`: {}",
                self.architecture,
                weight.map_or("its names are those of Hugging Face".to_owned(), |weight| format!(
                    "it has no tensor `{weight}`"
                ))
            );
        };
        let expected = [up.dim(0)?, down.dim(1)?];
        if dims != expected {
            bail!(
                layout,
                "`{module}` has shape {expected:?}, but `{weight}` of the model {dims:?}"
            );
        }
        let up = match names.filter(|names| names.permuted) {
            Some(_) => self.permuted(weight, up)?,
            None => up.clone(),
        };
        self.push(&format!("{weight}.lora_a"), down)?;
        self.push(&format!("{weight}.lora_b"), &up)
    }

    /// The second factor with its rows as the model has them.
    fn permuted(&self, weight: &str, up: &Tensor) -> Result<Tensor> {
        let Some(order) = self.base.head_rows(weight)? else { return Ok(up.clone()) };
        let rows = up.dim(0)?;
        let mut source = vec![0u32; rows];
        for row in 0..rows {
            source[order.in_gguf(row)] = row as u32;
        }
        up.index_select(&Tensor::new(source, up.device())?, 0)
    }

    fn push(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        // candle quantises all that lies behind a view.
        let tensor = tensor.to_dtype(DType::F32)?.force_contiguous()?;
        self.tensors.push((name.to_owned(), QTensor::quantize(&tensor, GgmlDType::F32)?));
        Ok(())
    }

    /// Writes the file, which is replaced as a whole.
    ///
    /// # Errors
    /// It can't be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = |text: &str| Value::String(text.to_owned());
        let values = [
            ("general.architecture", text(self.architecture)),
            ("general.type", text("adapter")),
            ("adapter.type", text("lora")),
            ("adapter.lora.alpha", Value::F32(self.alpha as f32)),
        ];
        let metadata: Vec<_> = values.iter().map(|(key, value)| (*key, value)).collect();
        let tensors: Vec<_> =
            self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut bytes = Cursor::new(Vec::new());
        gguf_file::write(&mut bytes, &metadata, &tensors)?;
        files::write(path, |file| Ok(file.write_all(bytes.get_ref())?))
    }
}
