//! A model in a folder, or in several files with an index, as Hugging Face lays them out.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use candle_core::Result;
use serde_json::Value;

use super::{NamedTensors, list, open};
use crate::error::{self, bail};

/// The files that a folder is read from, the first that is there.
const FILES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// An index is a few hundred thousand lines at most.
const MAX_INDEX: u64 = 1 << 26;

/// The names that an index has of its shards, by tensor.
const MAP: &str = "weight_map";

/// The file to read in place of a folder, if it is one.
///
/// # Errors
/// It has shards, but not their index.
pub(super) fn file_in(path: &Path) -> Result<Option<PathBuf>> {
    if !path.is_dir() {
        return Ok(None);
    }
    let files = FILES.iter().map(|name| path.join(name));
    let found = files.into_iter().find(|file| file.exists());
    match (found, shard_in(path)) {
        (None, Some(shard)) => {
            let (index, shown) = (index_of(&shard), path.join(&shard));
            let what = format!(
                "it has `{shard}`, a shard of a model, but no index `{index}`, which says what is in which shard: download that too, or open `{}` alone",
                shown.display()
            );
            Err(error::io(ErrorKind::NotFound, what))
        }
        (found, _) => Ok(found),
    }
}

/// The first of a folder's shards.
fn shard_in(path: &Path) -> Option<String> {
    let entries = std::fs::read_dir(path).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| is_shard(name)).min()
}

/// Whether a name is as `model-00001-of-00002.safetensors`.
fn is_shard(name: &str) -> bool {
    let ends = [".safetensors", ".bin"];
    let stem = ends.iter().find_map(|end| name.strip_suffix(end));
    let Some((front, count)) = stem.and_then(|stem| stem.rsplit_once("-of-")) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(count) && front.rsplit_once('-').is_some_and(|(_, number)| digits(number))
}

fn index_of(shard: &str) -> &'static str {
    if shard.ends_with(".bin") { FILES[3] } else { FILES[1] }
}

/// Whether a file of this start is an index of shards.
pub(super) fn is_index(start: &[u8], path: &Path) -> bool {
    let text = start.trim_ascii_start();
    text.starts_with(b"{") && read_index(path).is_ok_and(|index| index.get(MAP).is_some())
}

fn read_index(path: &Path) -> Result<Value> {
    if std::fs::metadata(path)?.len() > MAX_INDEX {
        bail!(file, "it has more than {MAX_INDEX} bytes, expected an index of shards");
    }
    serde_json::from_slice(&std::fs::read(path)?).map_err(|err| error::file(err.to_string()))
}

/// Reads the tensors that an index names, from the shards beside it.
///
/// # Errors
/// It is no index, a shard is missing or not whole, or lacks a tensor.
pub(super) fn read(path: &Path) -> Result<NamedTensors> {
    let index = read_index(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut found = NamedTensors::default();
    for (shard, names) in shards(&index)? {
        let file = beside(folder, shard, &names)?;
        let mut from = open(&file)?;
        for name in &names {
            take(&mut found, &mut from, name, shard)?;
        }
    }
    Ok(found)
}

/// The names of the tensors in each shard.
fn shards(index: &Value) -> Result<BTreeMap<&str, Vec<&str>>> {
    let Some(map) = index.get(MAP).and_then(Value::as_object) else {
        bail!(file, "`{MAP}` in it is no object, expected the name of a shard for each tensor");
    };
    let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, shard) in map {
        let Some(shard) = shard.as_str() else {
            bail!(file, "`{MAP}` has {shard} for `{name}`, expected the name of a shard");
        };
        shards.entry(shard).or_default().push(name);
    }
    Ok(shards)
}

/// A shard's path: it lies in the folder of its index, whatever that says.
fn beside(folder: &Path, shard: &str, names: &[&str]) -> Result<PathBuf> {
    let mut parts = Path::new(shard).components();
    if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
        bail!(file, "the shard `{shard}` of {} does not lie beside the index", some(names));
    }
    let path = folder.join(shard);
    if !path.exists() {
        let what = format!(
            "the shard `{shard}` of {} is not beside the index: download it too",
            some(names)
        );
        return Err(error::io(ErrorKind::NotFound, what));
    }
    Ok(path)
}

fn some(names: &[&str]) -> String {
    list(&names[..names.len().min(3)], names.len())
}

fn take(to: &mut NamedTensors, from: &mut NamedTensors, name: &str, shard: &str) -> Result<()> {
    if let Some(kind) = from.left_out.remove(name) {
        to.left_out.insert(name.to_owned(), kind);
        return Ok(());
    }
    let Some(tensor) = from.tensors.remove(name) else {
        bail!(
            file,
            "`{name}` is not in the shard `{shard}`, where the index has it: index and shards are of different models"
        );
    };
    to.tensors.insert(name.to_owned(), tensor);
    Ok(())
}
