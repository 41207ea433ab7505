//! Safetensors: read with the kinds that candle has, written from a snapshot.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Result, Tensor};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use safetensors::{SafeTensorError, SafeTensors};
use sha2::{Digest, Sha256};

use super::NamedTensors;
use super::hex;
use super::strided::{element_count, named};
use crate::error::{self, bail};

/// Reads a safetensors file.
///
/// # Errors
/// It is not a whole one.
pub(super) fn read(path: &Path) -> Result<NamedTensors> {
    let bytes = std::fs::read(path)?;
    let broken = |err: SafeTensorError| {
        let what = format!("it is not a whole safetensors file: {}", of_error(&bytes, &err));
        error::file(what)
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
    let views = SafeTensors::deserialize(&bytes).map_err(broken)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let mut found = NamedTensors { metadata, ..Default::default() };
    for (name, view) in views.tensors() {
        element_count(view.shape()).map_err(|err| named(&name, &err))?;
        match view.dtype() {
            dtype if is_left_out(dtype) => {
                found.left_out.insert(name, format!("a tensor of {dtype:?}"));
            }
            _ => {
                let tensor = view.load(&Device::Cpu).map_err(|err| named(&name, &err))?;
                found.tensors.insert(name, tensor);
            }
        }
    }
    Ok(found)
}

/// What candle has no numbers of.
fn is_left_out(dtype: Dtype) -> bool {
    use Dtype::{BF16, F16, F32, F64, I16, I32, I64, U8, U16, U32};
    !matches!(dtype, U8 | U16 | U32 | I16 | I32 | I64 | BF16 | F16 | F32 | F64 | Dtype::F8_E4M3)
}

/// The crate's words, with numbers where the file is too short or too long.
fn of_error(bytes: &[u8], err: &SafeTensorError) -> String {
    let Some(header) = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length)) else {
        return err.to_string();
    };
    let len = bytes.len() as u64;
    match err {
        SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => format!(
            "{err}: its header has {header} bytes, the file {len}; a download may have been interrupted"
        ),
        SafeTensorError::MetadataIncompleteBuffer => format!(
            "{err}: behind the header are {} bytes, other than it says; a download may have been interrupted",
            len.saturating_sub(header).saturating_sub(8)
        ),
        _ => err.to_string(),
    }
}

/// Tensors as they were at one moment, as bytes: what is hashed is what is written, also where another
/// thread goes on training. Each tensor is copied at once; a step may come between two of them.
#[derive(Default)]
pub(crate) struct Snapshot {
    tensors: Vec<Taken>,
}

struct Taken {
    name: String,
    dtype: DType,
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// Copies the values.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn take<'a>(tensors: impl Iterator<Item = (&'a str, &'a Tensor)>) -> Result<Self> {
        let mut snapshot = Self::default();
        for (name, tensor) in tensors {
            snapshot.add(name, tensor)?;
        }
        Ok(snapshot)
    }

    /// Copies one more.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn add(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let (dtype, dims) = (tensor.dtype(), tensor.dims().to_vec());
        let mut bytes = Vec::with_capacity(tensor.elem_count() * dtype.size_in_bytes());
        tensor.write_bytes(&mut bytes)?;
        self.tensors.push(Taken { name: name.to_owned(), dtype, dims, bytes });
        Ok(())
    }

    /// SHA-256 over names, dtypes, shapes and values, by name: tasks that were added come last where they
    /// were added, but not where they were declared.
    pub(crate) fn hash(&self) -> String {
        let mut sorted: Vec<_> = self.tensors.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let mut hasher = Sha256::new();
        for Taken { name, dtype, dims, bytes } in sorted {
            hasher.update(format!("{name} {dtype:?} {dims:?}\n"));
            hasher.update(bytes);
        }
        hex(&hasher.finalize())
    }

    /// Writes them to a file, which is replaced as a whole.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn write(mut self, path: &Path, metadata: HashMap<String, String>) -> Result<()> {
        // Larger values first: each then lies at a multiple of its size.
        let size = |taken: &Taken| std::cmp::Reverse(taken.dtype.size_in_bytes());
        self.tensors.sort_by(|a, b| size(a).cmp(&size(b)).then_with(|| a.name.cmp(&b.name)));
        let header = self.header(metadata).map_err(|err| super::can_not("write", path, &err))?;
        super::write(path, |file| {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            Ok(self.tensors.iter().try_for_each(|taken| file.write_all(&taken.bytes))?)
        })
    }

    fn header(&self, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
        let mut at = 0;
        let info = |taken: &Taken| {
            let (dtype, shape) = (taken.dtype.into(), taken.dims.clone());
            let data_offsets = (at, at + taken.bytes.len());
            at = data_offsets.1;
            (taken.name.clone(), TensorInfo { dtype, shape, data_offsets })
        };
        let infos: Vec<_> = self.tensors.iter().map(info).collect();
        let mut seen = HashSet::new();
        if let Some((name, _)) = infos.iter().find(|(name, _)| !seen.insert(name.as_str())) {
            bail!(declaration, "two tensors have the name `{name}`");
        }
        let header = Metadata::new(Some(metadata), infos)?;
        let mut header = serde_json::to_vec(&header).map_err(candle_core::Error::wrap)?;
        // Values begin at a multiple of eight.
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok(header)
    }
}
