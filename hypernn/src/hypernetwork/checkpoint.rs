//! Files: a hypernetwork's own checkpoint, and the generated weights as the target's.
//!
//! Both are safetensors. A hypernetwork's carries in its metadata the target's layout, line by
//! line, and a SHA-256 over all tensors, so that a file of another target, or an altered one, is
//! refused with the first difference, before anything is changed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Result, Tensor, Var, bail};
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use super::core::Core;
use super::params::SETS;
use crate::generated::{GeneratedParams, TargetPlan};
use crate::target::layout::{Layout, first_difference, hex};
use crate::target::role::Role;
use crate::target::value::is_stored_name;

const NETWORK: &str = "hypernn.network";
pub(super) const TARGET: &str = "hypernn.target";
pub(super) const VERSION: &str = "hypernn.version";
pub(super) const LAYOUT: &str = "hypernn.layout";
pub(super) const LAYOUT_HASH: &str = "hypernn.layout_sha256";
pub(super) const TENSORS_HASH: &str = "hypernn.tensors_sha256";
const PRETRAINED_HASH: &str = "hypernn.pretrained_sha256";

pub(super) type Metadata = HashMap<String, String>;

impl<T> Core<T> {
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let tensors = self.named_tensors().map(|(name, tensor)| (name.to_owned(), tensor.clone()));
        let tensors: Vec<_> = tensors.collect();
        let mut metadata = self.metadata();
        metadata.insert(TENSORS_HASH.to_owned(), hash(&tensors)?);
        if let Some(pretrained) = self.pretrained_hash()? {
            metadata.insert(PRETRAINED_HASH.to_owned(), pretrained);
        }
        write(path, &tensors, metadata)
    }

    pub(super) fn load(&self, path: &Path) -> Result<()> {
        let found = Checkpoint::read(path).map_err(|err| context(path, err))?;
        let checked = self.checked(&found).map_err(|err| context(path, err))?;
        for (var, value) in checked {
            var.set(&value)?;
        }
        Ok(())
    }

    pub(super) fn bake(&self, params: &GeneratedParams<T>, path: &Path) -> Result<()> {
        write(path, &params.named()?, self.metadata())
    }

    fn metadata(&self) -> Metadata {
        let entries = [
            (NETWORK, self.name.to_owned()),
            (TARGET, self.plan.name.to_owned()),
            (VERSION, env!("CARGO_PKG_VERSION").to_owned()),
            (LAYOUT, self.layout().to_string()),
            (LAYOUT_HASH, self.layout().hash().to_owned()),
        ];
        entries.map(|(key, value)| (key.to_owned(), value)).into()
    }

    /// SHA-256 over what is taken from a pretrained network and is in no checkpoint.
    fn pretrained_hash(&self) -> Result<Option<String>> {
        let TargetPlan { layout, starts, .. } = &*self.plan;
        let params = layout.params().iter().enumerate();
        let params = params.filter_map(|(i, at)| Some((at.name.clone(), starts.param(i)?.clone())));
        let frozen = layout.kept().iter().zip(self.kept.params.iter());
        let frozen = frozen.filter(|(kept, _)| kept.role == Role::Freeze);
        let frozen = frozen.map(|(kept, tensor)| (kept.name.clone(), tensor.clone()));
        let tensors: Vec<_> = params.chain(frozen).collect();
        if tensors.is_empty() { Ok(None) } else { hash(&tensors).map(Some) }
    }

    /// Each variable with its new value, after every check has passed.
    fn checked(&self, found: &Checkpoint) -> Result<Vec<(Var, Tensor)>> {
        if found.metadata.contains_key(SETS) {
            bail!("it holds generated parameters, which `load_params` reads, and no hypernetwork");
        }
        found.check_layout(self.plan.name, self.layout())?;
        found.check_pretrained(self.pretrained_hash()?.as_deref())?;
        let known = self.named_tensors().filter(|(name, _)| found.should_have(name));
        let pairs = known.map(|(name, var)| {
            let value = found.tensor(name, var)?;
            if !var.is_variable() {
                bail!("`{name}` is not a variable of this hypernetwork: build it from a VarMap to load into it");
            }
            Ok((Var::from_tensor(var)?, value.to_device(var.device())?))
        });
        let pairs = pairs.collect::<Result<Vec<_>>>()?;
        found.check_names(self.named_tensors().map(|(name, _)| name))?;
        found.check_hash(self.named_tensors().map(|(name, _)| name))?;
        Ok(pairs)
    }
}

/// A checkpoint in memory.
pub(super) struct Checkpoint {
    pub(super) metadata: Metadata,
    pub(super) tensors: HashMap<String, Tensor>,
}

impl Checkpoint {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|err| {
            candle_core::Error::msg(format!("it is not a whole safetensors file: {err}"))
        })?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
        Ok(Self { metadata, tensors })
    }

    pub(super) fn entry(&self, key: &str) -> Result<&str> {
        match self.metadata.get(key) {
            Some(value) => Ok(value),
            None => {
                bail!("no `{key}` in its metadata: it was not written by `save` of a hypernetwork")
            }
        }
    }

    pub(super) fn check_layout(&self, target: &str, layout: &Layout) -> Result<()> {
        let found = self.entry(LAYOUT)?;
        if self.entry(LAYOUT_HASH)? == layout.hash() {
            return Ok(());
        }
        let (found, expected) = first_difference(found, &layout.to_string());
        bail!(
            "it is a checkpoint for target {}; the first difference in layout: the file has `{found}`, {target} has `{expected}`",
            self.entry(TARGET)?,
        );
    }

    fn check_pretrained(&self, expected: Option<&str>) -> Result<()> {
        match (self.metadata.get(PRETRAINED_HASH), expected) {
            (None, None) => Ok(()),
            (Some(found), Some(expected)) if found == expected => Ok(()),
            (Some(found), Some(expected)) => bail!(
                "it was saved over another pretrained network: SHA-256 {found}, expected {expected}"
            ),
            (Some(_), None) => bail!(
                "it was saved over a pretrained network, but this hypernetwork has none: build it by `new_from`"
            ),
            (None, Some(_)) => bail!(
                "it was saved without a pretrained network, but this hypernetwork has one: build it by `new`"
            ),
        }
    }

    fn tensor(&self, name: &str, var: &Tensor) -> Result<Tensor> {
        let Some(tensor) = self.tensors.get(name) else {
            bail!("no tensor `{name}`, expected {:?} of shape {:?}", var.dtype(), var.dims());
        };
        if tensor.dims() != var.dims() || tensor.dtype() != var.dtype() {
            bail!(
                "tensor `{name}` is {:?} of shape {:?}, expected {:?} of shape {:?}",
                tensor.dtype(),
                tensor.dims(),
                var.dtype(),
                var.dims()
            );
        }
        Ok(tensor.clone())
    }

    pub(super) fn check_names<'a>(&self, known: impl Iterator<Item = &'a str>) -> Result<()> {
        let known: Vec<_> = known.collect();
        let unknown = self.tensors.keys().filter(|name| !known.contains(&name.as_str())).min();
        unknown.map_or(Ok(()), |name| bail!("tensor `{name}` is none of this hypernetwork's"))
    }

    /// Whether it lacks a tensor where it has none of this name: version 0.1 did not write what a
    /// target makes for itself.
    fn should_have(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || !is_stored_name(name)
    }

    pub(super) fn check_hash<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<()> {
        let names = names.filter(|name| self.tensors.contains_key(*name));
        let tensors: Vec<_> =
            names.map(|name| (name.to_owned(), self.tensors[name].clone())).collect();
        let (expected, found) = (self.entry(TENSORS_HASH)?, hash(&tensors)?);
        if found != expected {
            bail!(
                "its tensors were altered after it was saved: SHA-256 {found}, expected {expected}"
            );
        }
        Ok(())
    }
}

pub(super) fn context(path: &Path, err: candle_core::Error) -> candle_core::Error {
    candle_core::Error::msg(format!("can't load {}: {err}", path.display()))
}

/// SHA-256 over names, dtypes, shapes and values, by name: tasks that were added come last where they
/// were added, but not where they were declared.
pub(super) fn hash(tensors: &[(String, Tensor)]) -> Result<String> {
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut hasher = Sha256::new();
    for (name, tensor) in sorted {
        hasher.update(format!("{name} {:?} {:?}\n", tensor.dtype(), tensor.dims()));
        let mut bytes = Vec::new();
        tensor.write_bytes(&mut bytes)?;
        hasher.update(&bytes);
    }
    Ok(hex(&hasher.finalize()))
}

/// Writes tensors alone, beside `path`, then renames.
pub(crate) fn write_tensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    write(path, tensors, Metadata::new())
}

/// Writes beside `path`, then renames.
pub(super) fn write(path: &Path, tensors: &[(String, Tensor)], metadata: Metadata) -> Result<()> {
    let partial = partial(path)?;
    let views = tensors.iter().map(|(name, tensor)| (name, tensor));
    let written = safetensors::tensor::serialize_to_file(views, Some(metadata), &partial)
        .map_err(candle_core::Error::from)
        .and_then(|()| Ok(std::fs::rename(&partial, path)?));
    if let Err(err) = written {
        // The error of the write is the one to report, whatever becomes of the partial file.
        let _ = std::fs::remove_file(&partial);
        bail!("can't write {}: {err}", path.display());
    }
    Ok(())
}

/// A name beside `path` that no other write of this or another process uses.
fn partial(path: &Path) -> Result<PathBuf> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let Some(name) = path.file_name() else {
        bail!("can't write {}: it names no file", path.display());
    };
    let mut partial = name.to_owned();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    partial.push(format!(".partial-{}-{count}", std::process::id()));
    Ok(path.with_file_name(partial))
}
