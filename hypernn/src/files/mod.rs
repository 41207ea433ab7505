//! Files of tensors by name.

mod folder;
pub mod gguf;
mod hex;
mod kind;
mod names;
pub(crate) mod peft;
mod pickle;
mod safetensors;
mod state_dict;
mod strided;
mod torch;
mod write;

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::path::Path;

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;

use self::gguf::GgufTensors;
pub(crate) use self::hex::hex;
pub(crate) use self::names::{list, nearest, prefix};
pub(crate) use self::safetensors::Snapshot;
pub(crate) use self::write::write;
use crate::error::{self, bail};

/// As much of a file's start as says what it is.
const START: u64 = 512;

/// What is in a file of tensors.
#[derive(Default)]
pub(crate) struct NamedTensors {
    pub(crate) tensors: HashMap<String, Tensor>,
    /// Tensors of kinds that are not read, with the kind.
    pub(crate) left_out: HashMap<String, String>,
    pub(crate) metadata: HashMap<String, String>,
}

/// Reads a safetensors file, or what `torch.save` wrote.
///
/// # Errors
/// There is no such file, or it is neither; then what it is instead.
pub(crate) fn read(path: &Path) -> Result<NamedTensors> {
    let start = start(path)?;
    if start.starts_with(&torch::ZIP) {
        return torch::read_zip(path);
    }
    if start.starts_with(torch::LEGACY) {
        return torch::read_legacy(path);
    }
    if let Some(what) = kind::of(&start, path) {
        bail!(file, "{what}");
    }
    safetensors::read(path)
}

/// A network's tensors, from whatever it is kept in.
pub(crate) enum Network {
    Named(NamedTensors),
    Gguf(GgufTensors),
}

/// Opens a network: a file of tensors, a GGUF file, the index of several files, or a folder with one of these.
pub(crate) fn open_network(path: &Path) -> Result<Network> {
    let file = folder::file_in(path).map_err(|err| can_not("read", path, &err))?;
    let path = file.as_deref().unwrap_or(path);
    read_network(path).map_err(|err| can_not("read", path, &err))
}

fn read_network(path: &Path) -> Result<Network> {
    let start = start(path)?;
    if start.starts_with(gguf::MAGIC) {
        return GgufTensors::new(gguf::Gguf::read(path)?).map(Network::Gguf);
    }
    if folder::is_index(&start, path) {
        return folder::read(path).map(Network::Named);
    }
    read(path).map(Network::Named)
}

/// Reads the tensors of the file at this path, which its errors name.
pub(crate) fn open(path: &Path) -> Result<NamedTensors> {
    read(path).map_err(|err| can_not("read", path, &err))
}

/// The tensors of a file, all of which are wanted.
///
/// # Errors
/// Those of [`open`], or the file has a tensor of a kind that is not read.
pub(crate) fn tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    let NamedTensors { tensors, left_out, .. } = open(path)?;
    match left_out.into_iter().min() {
        None => Ok(tensors),
        Some((name, kind)) => Err(can_not("read", path, &error::file(refusal(&name, &kind)))),
    }
}

pub(crate) fn can_not(what: &str, path: &Path, err: &candle_core::Error) -> candle_core::Error {
    let words =
        format!("can't {what} {}: {}", path.display(), names::printable(&error::plain(err)));
    match kind_of(err) {
        Some(kind) => kind.reworded(|_| words).at(path).into(),
        None => Error::Msg(words).bt(),
    }
}

/// What the system itself says has its kind; of all else that is not this crate's nobody knows.
fn kind_of(err: &Error) -> Option<crate::Error> {
    match err {
        err if crate::Error::of(err).is_some() => crate::Error::of(err).cloned(),
        Error::Io(err) => {
            Some(crate::Error::Io { message: String::new(), kind: err.kind(), path: None })
        }
        _ => None,
    }
}

/// The start of a regular file. Others are not opened: that could wait for ever.
fn start(path: &Path) -> Result<Vec<u8>> {
    if path.as_os_str().is_empty() {
        return Err(error::io(ErrorKind::InvalidInput, "the path is empty"));
    }
    let found = std::fs::metadata(path)?;
    if found.is_dir() {
        return Err(error::io(ErrorKind::IsADirectory, kind::of_directory(path)));
    }
    if !found.is_file() {
        let what = kind::of_special(found.file_type());
        return Err(error::io(ErrorKind::InvalidInput, format!("it is {what}, expected a file")));
    }
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(START).read_to_end(&mut start)?;
    Ok(start)
}

fn refusal(name: &str, kind: &str) -> String {
    format!(
        "`{name}` is {kind}, which is not read: convert it before it is saved, to a floating dtype and dense"
    )
}

/// A tensor that is asked for in this shape; another is candle's own error.
fn of_shape(tensor: Tensor, name: &str, expected: Shape) -> Result<Tensor> {
    if *tensor.shape() == expected {
        return Ok(tensor);
    }
    let (msg, got) = (format!("shape mismatch for {name}"), tensor.shape().clone());
    Err(Error::UnexpectedShape { msg, expected, got }.bt())
}

/// A builder over the tensors, with candle's own errors, which a constructor may look at.
impl SimpleBackend for NamedTensors {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, to: &Device) -> Result<Tensor> {
        of_shape(self.get_unchecked(name, dtype, to)?, name, shape)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, to: &Device) -> Result<Tensor> {
        match (self.tensors.get(name), self.left_out.get(name)) {
            (Some(tensor), _) => tensor.to_device(to)?.to_dtype(dtype),
            (None, Some(kind)) => bail!(file, "{}", refusal(name, kind)),
            (None, None) => Err(Error::CannotFindTensor { path: name.to_owned() }.bt()),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || self.left_out.contains_key(name)
    }
}
