//! Files: a hypernetwork's own checkpoint, and the generated weights as the target's.
//!
//! Both are safetensors. A hypernetwork's carries in its metadata the whole declaration: the target's
//! layout, line by line, the settings of its layers, embedding, generator, mode and init; and a SHA-256
//! over all tensors. A file of another declaration, or an altered one, is refused with the first
//! difference, before anything is changed. What older files do not say is not compared.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Result, Tensor, Var, bail};
use sha2::{Digest, Sha256};

use super::core::{Core, Parts};
use crate::files::{self, Found, Snapshot};
use crate::generated::{GeneratedParams, TargetPlan};
use crate::target::layout::{Layout, hex};
use crate::target::role::Role;

const NETWORK: &str = "hypernn.network";
const TARGET: &str = "hypernn.target";
const VERSION: &str = "hypernn.version";
const LAYOUT: &str = "hypernn.layout";
const LAYOUT_HASH: &str = "hypernn.layout_sha256";
const TENSORS_HASH: &str = "hypernn.tensors_sha256";
const PRETRAINED_HASH: &str = "hypernn.pretrained_sha256";
const LAYERS: &str = "hypernn.layers";
const EMBEDDING: &str = "hypernn.embedding";
const GENERATOR: &str = "hypernn.generator";
const MODE: &str = "hypernn.mode";
const INIT: &str = "hypernn.init";

type Metadata = HashMap<String, String>;

impl<T> Core<T> {
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let snapshot = Snapshot::take(self.named_tensors())?;
        let mut metadata = self.metadata();
        metadata.extend(self.declaration().map(|(key, value)| (key.to_owned(), value)));
        metadata.insert(LAYERS.to_owned(), layers(self.layout()));
        metadata.insert(TENSORS_HASH.to_owned(), snapshot.hash());
        if let Some(pretrained) = self.pretrained_hash()? {
            metadata.insert(PRETRAINED_HASH.to_owned(), pretrained);
        }
        snapshot.write(path, metadata)
    }

    pub(super) fn load(&self, path: &Path) -> Result<()> {
        let found = files::read(path).map(Checkpoint);
        let checked = found.and_then(|found| self.checked(&found));
        let checked = checked.map_err(|err| files::can_not("load", path, &err))?;
        for (var, value) in checked {
            var.set(&value)?;
        }
        Ok(())
    }

    pub(super) fn bake(&self, params: &GeneratedParams<T>, path: &Path) -> Result<()> {
        let named = params.named()?;
        let named = named.iter().map(|(name, tensor)| (name.as_str(), tensor));
        Snapshot::take(named)?.write(path, self.metadata())
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

    /// What was declared beside the target.
    fn declaration(&self) -> [(&'static str, String); 4] {
        let Parts { embedding_in_files, generator, mode, .. } = &self.parts;
        [
            (EMBEDDING, embedding_in_files.clone()),
            (GENERATOR, generator.clone()),
            (MODE, (*mode).to_owned()),
            (INIT, self.scheme.name().to_owned()),
        ]
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
        found.check_version()?;
        found.check_layout(self.plan.name, self.layout())?;
        found.check_layers(self.plan.name, self.layout())?;
        found.check_declaration(self.name, self.declaration())?;
        found.check_pretrained(self.pretrained_hash()?.as_deref())?;
        let pairs = self.named_tensors().map(|(name, var)| {
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

/// The settings of layers that say so, one in a line.
fn layers(layout: &Layout) -> String {
    let lines = layout.layers().map(|(path, layer)| format!("{path}: {layer}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A checkpoint in memory.
struct Checkpoint(Found);

impl Checkpoint {
    fn entry(&self, key: &str) -> Result<&str> {
        match self.0.metadata.get(key) {
            Some(value) => Ok(value),
            None => {
                bail!("no `{key}` in its metadata: it was not written by `save` of a hypernetwork")
            }
        }
    }

    /// The file is not of a later version than this one knows.
    fn check_version(&self) -> Result<()> {
        let Some(found) = self.0.metadata.get(VERSION) else { return Ok(()) };
        let own = env!("CARGO_PKG_VERSION");
        match (epoch(found), epoch(own)) {
            (Some(theirs), Some(ours)) if theirs > ours => bail!(
                "it was written by hypernn {found}, whose files hypernn {own}, which reads it, may not know: use the later one"
            ),
            (None, _) => bail!("its `{VERSION}` is `{found}`, expected a version such as {own}"),
            _ => Ok(()),
        }
    }

    fn check_layout(&self, target: &str, layout: &Layout) -> Result<()> {
        let (found, hash) = (self.entry(LAYOUT)?, self.entry(LAYOUT_HASH)?);
        if hash == layout.hash() {
            return Ok(());
        }
        let expected = layout.to_string();
        let lines = |text: &str| text.lines().map(squeeze).collect::<Vec<_>>();
        let Some((found, expected)) = first_difference(&lines(found), &lines(&expected)) else {
            bail!(
                "its metadata were altered: its layout is that of {target}, but `{LAYOUT_HASH}` is {hash}, expected {}",
                layout.hash()
            );
        };
        bail!(
            "it is a checkpoint for target {}; the first difference in layout: the file has `{found}`, {target} has `{expected}`",
            self.entry(TARGET)?
        );
    }

    /// Layers that are in both compute alike.
    fn check_layers(&self, target: &str, layout: &Layout) -> Result<()> {
        let Some(text) = self.0.metadata.get(LAYERS) else { return Ok(()) };
        let theirs: HashMap<_, _> = text.lines().filter_map(|line| line.split_once(": ")).collect();
        for (path, expected) in layout.layers() {
            match theirs.get(path) {
                Some(found) if *found != expected => bail!(
                    "its layer `{path}` has other settings: the file has `{found}`, {target} has `{expected}`"
                ),
                _ => {}
            }
        }
        Ok(())
    }

    fn check_declaration(&self, own: &str, declared: [(&str, String); 4]) -> Result<()> {
        for (key, expected) in declared {
            match self.0.metadata.get(key) {
                Some(found) if *found != expected => {
                    let part = key.trim_start_matches("hypernn.");
                    bail!(
                        "it was saved with another {part}: the file has `{found}`, {own} has `{expected}`"
                    )
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_pretrained(&self, expected: Option<&str>) -> Result<()> {
        match (self.0.metadata.get(PRETRAINED_HASH), expected) {
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
        let Some(tensor) = self.0.tensors.get(name) else {
            let expected = format!("expected {:?} of shape {:?}", var.dtype(), var.dims());
            match self.0.left_out.get(name) {
                Some(kind) => bail!("tensor `{name}` is {kind}, {expected}"),
                None => bail!("no tensor `{name}`, {expected}"),
            }
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

    fn check_names<'a>(&self, known: impl Iterator<Item = &'a str>) -> Result<()> {
        let known: Vec<_> = known.collect();
        let found = self.0.tensors.keys().chain(self.0.left_out.keys());
        let unknown = found.filter(|name| !known.contains(&name.as_str())).min();
        unknown.map_or(Ok(()), |name| bail!("tensor `{name}` is none of this hypernetwork's"))
    }

    fn check_hash<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<()> {
        let tensors: Vec<_> =
            names.map(|name| (name.to_owned(), self.0.tensors[name].clone())).collect();
        let (expected, found) = (self.entry(TENSORS_HASH)?, hash(&tensors)?);
        if found != expected {
            bail!(
                "its tensors were altered after it was saved: SHA-256 {found}, expected {expected}"
            );
        }
        Ok(())
    }
}

/// A line of a layout with single spaces.
fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first pair of lines that differ.
fn first_difference(found: &[String], expected: &[String]) -> Option<(String, String)> {
    let line =
        |lines: &[String], at: usize| lines.get(at).map_or("nothing".to_owned(), String::clone);
    let at = (0..found.len().max(expected.len())).find(|&at| found.get(at) != expected.get(at))?;
    Some((line(found, at), line(expected, at)))
}

/// The part of a version that must not be later: before 1.0, each minor version may change all.
fn epoch(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().ok());
    let (major, minor) = (numbers.next()??, numbers.next()??);
    Some((major, if major == 0 { minor } else { 0 }))
}

/// SHA-256 over names, dtypes, shapes and values, as of a [`Snapshot`].
fn hash(tensors: &[(String, Tensor)]) -> Result<String> {
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
