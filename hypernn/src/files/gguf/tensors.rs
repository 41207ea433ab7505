//! The tensors of a GGUF file under Hugging Face's names.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;

use super::names::{HeadRows, Names};
use super::{FromMetadata, Gguf};
use crate::error::{bail, file};
use crate::files::of_shape;

/// A builder over a file's tensors, which are read when they are asked for.
#[derive(Clone)]
pub(crate) struct GgufTensors {
    file: Arc<Gguf>,
    /// By Hugging Face's name, where the architecture is known.
    tensors: Arc<HashMap<String, Source>>,
}

/// Where a tensor comes from.
struct Source {
    /// Its name in the file.
    name: String,
    /// The order of its rows, where it is another.
    rows: Option<HeadRows>,
}

impl GgufTensors {
    /// The tensors of a file.
    ///
    /// # Errors
    /// A name is there twice, or the rows of queries or keys are not those of the heads in the metadata.
    pub(crate) fn new(file: Gguf) -> Result<Self> {
        let names = Names::of(file.value::<&str>("general.architecture")?.unwrap_or_default());
        let sources = file.tensors.keys().map(|name| {
            let Some(known) = names else { return Ok((name.clone(), Source::plain(name))) };
            let theirs = known.hugging_face(name).unwrap_or_else(|| name.clone());
            let rows = if known.permuted { file.head_rows(name)? } else { None };
            Ok((theirs, Source { name: name.clone(), rows }))
        });
        let tensors = sources.collect::<Result<HashMap<_, _>>>()?;
        if tensors.len() < file.tensors.len() {
            bail!(file, "two of its tensors have one name by Hugging Face's");
        }
        Ok(Self { file: Arc::new(file), tensors: Arc::new(tensors) })
    }

    /// The names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether a tensor takes less than one in f32.
    pub(crate) fn is_quantized(&self, name: &str) -> bool {
        let place = self.tensors.get(name).and_then(|source| self.file.tensors.get(&source.name));
        place.is_some_and(|place| place.kind.is_quantized())
    }

    /// A tensor as it is in the file, with its rows in Hugging Face's order.
    ///
    /// # Errors
    /// candle's own where there is none; it is of a type that candle has not.
    pub(crate) fn quantized(&self, name: &str, to: &Device) -> Result<QTensor> {
        let Some(source) = self.tensors.get(name) else {
            return Err(Error::CannotFindTensor { path: name.to_owned() }.bt());
        };
        match source.rows {
            None => self.file.rows(&source.name, to, |row| row),
            Some(rows) => self.file.rows(&source.name, to, |row| rows.in_gguf(row)),
        }
    }
}

impl Source {
    fn plain(name: &str) -> Self {
        Self { name: name.to_owned(), rows: None }
    }
}

impl Gguf {
    /// The order of rows of a tensor, where llama.cpp has another than Hugging Face.
    pub(super) fn head_rows(&self, name: &str) -> Result<Option<HeadRows>> {
        let heads = match name.rsplit('.').nth(1) {
            Some("attn_q") => self.heads("attention.head_count", name)?,
            Some("attn_k") => self.key_heads(name)?,
            _ => return Ok(None),
        };
        let dims = self.shape(name).unwrap_or_default();
        let rows = dims.first().copied().unwrap_or_default();
        let found = HeadRows::new(rows, heads);
        found.map(Some).ok_or_else(|| {
            let what = format!(
                "tensor `{name}` has shape {dims:?}, expected rows of {heads} heads of an even width"
            );
            file(what)
        })
    }

    fn key_heads(&self, name: &str) -> Result<usize> {
        let key = "attention.head_count_kv";
        let architecture: &str = self.needed("general.architecture")?;
        let has = self.metadata.contains_key(&format!("{architecture}.{key}"));
        self.heads(if has { key } else { "attention.head_count" }, name)
    }

    /// The number of heads in the layer of this tensor: one for all layers, or a list by layer.
    fn heads(&self, key: &str, name: &str) -> Result<usize> {
        let architecture: &str = self.needed("general.architecture")?;
        let key = format!("{architecture}.{key}");
        if let Some(by_layer) = self.metadata.get(&key).and_then(Vec::<usize>::from_value) {
            let layer = name.split('.').nth(1).and_then(|layer| layer.parse::<usize>().ok());
            let found = layer.and_then(|layer| by_layer.get(layer).copied());
            return found.ok_or_else(|| file(format!("`{key}` has no number for `{name}`")));
        }
        self.needed(&key)
    }
}

/// Tensors are dequantised to the dtype that is asked for.
impl SimpleBackend for GgufTensors {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, to: &Device) -> Result<Tensor> {
        of_shape(self.get_unchecked(name, dtype, to)?, name, shape)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, to: &Device) -> Result<Tensor> {
        let tensor = self.quantized(name, &Device::Cpu)?.dequantize(&Device::Cpu)?;
        tensor.to_dtype(dtype)?.to_device(to)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}
