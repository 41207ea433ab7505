//! GGUF, the files of llama.cpp: a model's settings, its tokenizer and its tensors, quantised or not.
//!
//! The format is that of [ggml's specification](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), versions 2
//! and 3. [`Pretrained::open`](crate::Pretrained::open) takes a network's tensors from such a file; what a program needs
//! beside them, as the sizes of the model and its vocabulary, is in the metadata, which [`Gguf`] has by key.

mod header;
mod lora;
mod metadata;
mod names;
mod tensors;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use candle_core::quantized::{QStorage, QTensor};
use candle_core::{Device, Result, Tensor};

use self::header::{Header, Kind, Place};
pub(crate) use self::lora::GgufLora;
pub use self::metadata::{FromMetadata, Value};
pub(crate) use self::tensors::GgufTensors;
use super::strided::named;
use super::{can_not, start};
use crate::error::{self, bail};

/// How a GGUF file begins.
pub(super) const MAGIC: &[u8] = b"GGUF";

/// The most bytes to which a value of a tensor has to be aligned in memory.
const ALIGNMENT: usize = 16;

/// A GGUF file: its metadata by key, and its tensors by their names in the file, which are read when they are asked for.
///
/// The file may come from anywhere: what its metadata takes in memory is a small multiple of the file's length, and no
/// tensor takes more than its own part of the file.
///
/// ```
/// use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
/// use candle_core::{DType, Device, Result, Tensor};
/// use hypernn::gguf::{Gguf, Value};
///
/// # fn main() -> Result<()> {
/// let path = std::env::temp_dir().join("hypernn_metadata.gguf");
/// let architecture = Value::String("llama".to_owned());
/// let layers = Value::U32(30);
/// let norm = Tensor::ones(4, DType::F32, &Device::Cpu)?;
/// gguf_file::write(
///     &mut std::fs::File::create(&path)?,
///     &[("general.architecture", &architecture), ("llama.block_count", &layers)],
///     &[("output_norm.weight", &QTensor::quantize(&norm, GgmlDType::F32)?)],
/// )?;
///
/// let file = Gguf::open(&path)?;
/// assert_eq!(file.architecture()?, "llama");
/// assert_eq!(file.get::<usize>("llama.block_count")?, 30);
/// assert_eq!(file.find::<f64>("llama.rope.freq_base")?, None);
/// assert_eq!(file.tensor("output_norm.weight")?.to_vec1::<f32>()?, [1.; 4]);
/// // An error names the key.
/// let refused = file.get::<usize>("general.architecture").err().map(|err| err.to_string());
/// assert!(refused.is_some_and(|said| said.contains(
///     "`general.architecture` in its metadata is the text `llama`, expected a number that is not negative"
/// )));
/// # Ok(())
/// # }
/// ```
pub struct Gguf {
    path: PathBuf,
    file: Mutex<File>,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, Place>,
}

impl std::fmt::Debug for Gguf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (metadata, tensors) = (self.metadata.len(), self.tensors.len());
        write!(f, "Gguf({}, {metadata} keys, {tensors} tensors)", self.path.display())
    }
}

impl Gguf {
    /// Reads the metadata of a file, and where its tensors lie.
    ///
    /// # Errors
    /// There is no such file; it is another, of another version, or not whole.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::read(path).map_err(|err| can_not("read", path, &err))
    }

    pub(super) fn read(path: &Path) -> Result<Self> {
        let start = start(path)?;
        if !start.starts_with(MAGIC) {
            let bytes: Vec<_> = start.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            bail!(
                file,
                "it is not a GGUF file: it begins with the bytes {}, expected `GGUF`",
                bytes.join(" ")
            );
        }
        let file = File::open(path)?;
        let Header { metadata, tensors } = Header::read(&file)?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file), metadata, tensors })
    }

    /// What kind of model it is, `general.architecture`: `llama`, `qwen2`, `bert`.
    ///
    /// # Errors
    /// The file does not say.
    pub fn architecture(&self) -> Result<&str> {
        self.get("general.architecture")
    }

    /// All metadata by key.
    pub fn metadata(&self) -> &HashMap<String, Value> {
        &self.metadata
    }

    /// The value of a key, as text (`&str`), a truth value, a number (`u32`, `u64`, `usize`, `i64`, `f64`) or a list of
    /// those (`Vec`).
    ///
    /// # Errors
    /// There is no such key, or its value is of another type: the key and the value are named.
    pub fn get<'a, T: FromMetadata<'a>>(&'a self, key: &str) -> Result<T> {
        self.needed(key).map_err(|err| can_not("read", &self.path, &err))
    }

    /// The value of a key, where there is one; see [`get`](Self::get).
    ///
    /// # Errors
    /// The value is of another type.
    pub fn find<'a, T: FromMetadata<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        self.value(key).map_err(|err| can_not("read", &self.path, &err))
    }

    fn needed<'a, T: FromMetadata<'a>>(&'a self, key: &str) -> Result<T> {
        let Some(value) = self.value(key)? else {
            bail!(file, "no `{key}` in its metadata, expected {}", T::EXPECTED);
        };
        Ok(value)
    }

    fn value<'a, T: FromMetadata<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        let Some(found) = T::from_value(value) else {
            let (found, expected) = (metadata::described(value), T::EXPECTED);
            bail!(file, "`{key}` in its metadata is {found}, expected {expected}");
        };
        Ok(Some(found))
    }

    /// The names of its tensors in alphabetical order, as they are in the file.
    pub fn tensor_names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// The shape of a tensor, `[rows, columns]` for a matrix, where there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|place| &place.dims[..])
    }

    /// Reads a tensor, in f32.
    ///
    /// # Errors
    /// There is no such tensor, or it is of a type that candle does not dequantise.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        self.quantized(name)?.dequantize(&Device::Cpu)
    }

    /// Reads a tensor as it is in the file.
    ///
    /// # Errors
    /// There is no such tensor, or it is of a type that candle does not dequantise.
    pub fn quantized(&self, name: &str) -> Result<QTensor> {
        self.rows(name, &Device::Cpu, |row| row)
    }

    /// Reads a tensor whose row number `row` is row number `source(row)` of the file.
    fn rows(&self, name: &str, to: &Device, source: impl Fn(usize) -> usize) -> Result<QTensor> {
        let read = match self.tensors.get(name) {
            Some(place) => self.read_rows(place, to, source).map_err(|err| named(name, &err)),
            None => {
                let near = super::nearest(name, self.tensors.keys().map(String::as_str));
                Err(error::file(format!("it has no tensor `{name}`; the nearest names are {near}")))
            }
        };
        read.map_err(|err| can_not("read", &self.path, &err))
    }

    fn read_rows(
        &self,
        place: &Place,
        to: &Device,
        source: impl Fn(usize) -> usize,
    ) -> Result<QTensor> {
        let dtype = match place.kind {
            Kind::Known(dtype) => dtype,
            Kind::Other(number) => bail!(file, "{}", header::refusal(number)),
        };
        let bytes = self.bytes(place)?;
        let rows = place.dims[0].max(1);
        let (mut aligned, start) = aligned(bytes.len());
        for row in 0..rows {
            let len = bytes.len() / rows;
            aligned[start + row * len..][..len].copy_from_slice(&bytes[source(row) * len..][..len]);
        }
        let blocks = (&aligned[start..][..bytes.len()]).into();
        QTensor::new(QStorage::from_data(blocks, to, dtype)?, &place.dims[..])
    }

    fn bytes(&self, place: &Place) -> Result<Vec<u8>> {
        let mut bytes = vec![0; place.len];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(place.at))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Room for so many bytes, with where it begins: candle takes values only where they lie as in memory.
fn aligned(len: usize) -> (Vec<u8>, usize) {
    let room = vec![0; len + ALIGNMENT];
    let start = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    (room, start)
}
