//! What `torch.save` writes: since PyTorch 1.6 a zip archive of a pickle and its storages, before that
//! pickles one after the other and the storages behind them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::Path;

use candle_core::Result;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{Node, Pickle, Value};
use super::state_dict::{StateDict, storages};
use super::strided::Maker;
use super::{NamedTensors, kind};
use crate::error::{self, bail};

/// How a zip archive begins.
pub(super) const ZIP: [u8; 4] = *b"PK\x03\x04";

/// How the older form begins: a pickle of a number that PyTorch chose.
pub(super) const LEGACY: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.";

/// That of a large model has some ten million bytes.
const MAX_PICKLE: u64 = 1 << 28;

/// Reads the `state_dict` in a zip archive.
///
/// # Errors
/// It is not what `torch.save` writes.
pub(super) fn read_zip(path: &Path) -> Result<NamedTensors> {
    let mut archive = Archive::open(path)?;
    let bytes = archive.read(&format!("{}data.pkl", archive.prefix), MAX_PICKLE)?;
    let swapped = archive.is_big_endian()?;
    let pickle = Pickle::read(&bytes)?;
    let prefix = format!("{}data/", archive.prefix);
    let (file, mut left) = (archive.file, archive.file);
    found(&pickle, Maker::new(file, swapped), |key| {
        let bytes = archive.read(&format!("{prefix}{key}"), left)?;
        left -= bytes.len() as u64;
        Ok(bytes)
    })
}

/// Reads the `state_dict` in the older form.
///
/// # Errors
/// It is not what `torch.save` wrote.
pub(super) fn read_legacy(path: &Path) -> Result<NamedTensors> {
    let bytes = std::fs::read(path)?;
    let mut rest = &bytes[..];
    let mut next = || -> Result<Pickle<'_>> {
        let pickle = Pickle::read(rest)?;
        rest = &rest[pickle.end..];
        Ok(pickle)
    };
    // The number, the version of the form, what the computer was, and what was saved.
    let [_, _, system, pickle] = [next()?, next()?, next()?, next()?];
    let swapped = is_big_endian(&system);
    let places = places(&bytes, bytes.len() - rest.len(), &pickle)?;
    found(&pickle, Maker::new(bytes.len() as u64, swapped), |key| match places.get(key) {
        Some(place) => Ok(&bytes[place.clone()]),
        None => bail!(file, "the file has no storage `{key}`"),
    })
}

/// The tensors that a pickle describes, in the storages that `storage` gives.
fn found<B: AsRef<[u8]>>(
    pickle: &Pickle<'_>,
    mut maker: Maker,
    mut storage: impl FnMut(&str) -> Result<B>,
) -> Result<NamedTensors> {
    let StateDict { tensors, left_out } = StateDict::find(pickle)?;
    let mut found = HashMap::new();
    for (key, parts) in tensors {
        found.extend(maker.tensors(storage(&key)?.as_ref(), parts)?);
    }
    Ok(NamedTensors { tensors: found, left_out, metadata: HashMap::new() })
}

struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// What the names of all entries begin with.
    prefix: String,
    /// The file's length in bytes.
    file: u64,
}

impl Archive {
    fn open(path: &Path) -> Result<Self> {
        let opened = File::open(path)?;
        let file = opened.metadata()?.len();
        let zip = ZipArchive::new(BufReader::new(opened)).map_err(|err| {
            let what = format!("it begins as a zip archive, but is not a whole one: {err}");
            error::file(what)
        })?;
        let names: Vec<_> =
            zip.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
        let pickle = names.iter().filter_map(|name| name.strip_suffix("data.pkl"));
        let pickle = pickle.filter(|prefix| prefix.is_empty() || prefix.ends_with('/'));
        match pickle.min_by_key(|prefix| prefix.len()) {
            Some(prefix) => Ok(Self { prefix: prefix.to_owned(), zip, file }),
            None => bail!(file, "{}", kind::of_archive(&names)),
        }
    }

    /// The bytes of an entry; at most as many as `limit`.
    fn read(&mut self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let context =
            |err: &dyn std::fmt::Display| error::file(format!("its entry `{name}`: {err}"));
        let entry = self.zip.by_name(name).map_err(|err| context(&err))?;
        let size = entry.size();
        if entry.compression() != CompressionMethod::Stored {
            bail!(
                file,
                "its entry `{name}` is compressed, which `torch.save` does not do: pack it anew"
            );
        }
        if size > limit || size > self.file {
            bail!(file, "its entry `{name}` has {size} bytes, more than there can be in the file");
        }
        let mut bytes = Vec::with_capacity(size as usize);
        entry.take(size.saturating_add(1)).read_to_end(&mut bytes).map_err(|err| context(&err))?;
        if bytes.len() as u64 != size {
            bail!(file, "its entry `{name}` has {} bytes, but says {size}", bytes.len());
        }
        Ok(bytes)
    }

    /// Older files do not say.
    fn is_big_endian(&mut self) -> Result<bool> {
        let name = format!("{}byteorder", self.prefix);
        if self.zip.index_for_name(&name).is_none() {
            return Ok(false);
        }
        match &self.read(&name, 16)?[..] {
            b"little" => Ok(false),
            b"big" => Ok(true),
            other => bail!(file, "its byte order is `{}`", String::from_utf8_lossy(other)),
        }
    }
}

/// Whether the older form's third pickle has `"little_endian": False`.
fn is_big_endian(system: &Pickle<'_>) -> bool {
    let Some(Node::Dict(entries)) = system.node(system.root) else { return false };
    entries.iter().any(|(key, value)| {
        *value == Value::Bool(false) && system.text(*key).as_deref() == Some("little_endian")
    })
}

/// Where the storages of the older form lie: from `start` on there is a pickle of their keys, and then,
/// for each, the number of its values in eight bytes, and these.
fn places(
    bytes: &[u8],
    start: usize,
    pickle: &Pickle<'_>,
) -> Result<HashMap<String, Range<usize>>> {
    let sizes: HashMap<_, _> = storages(pickle).map(|s| (s.key.clone(), s.item_size())).collect();
    let keys = Pickle::read(&bytes[start..])?;
    let mut at = start + keys.end;
    let mut places = HashMap::new();
    for key in keys.sequence(keys.root).unwrap_or_default() {
        let Some(key) = keys.text(*key) else { bail!(file, "a storage whose key is no text") };
        let Some(size) = sizes.get(&key) else { bail!(file, "a storage `{key}` of no tensor") };
        let Some(length) = bytes[at..].first_chunk::<8>() else {
            bail!(file, "the file ends before storage `{key}`");
        };
        let length = usize::try_from(u64::from_le_bytes(*length)).ok();
        let end = length.and_then(|n| n.checked_mul(*size)?.checked_add(at + 8));
        let Some(end) = end.filter(|end| *end <= bytes.len()) else {
            bail!(file, "the file ends within storage `{key}`");
        };
        places.insert(key, at + 8..end);
        at = end;
    }
    Ok(places)
}
