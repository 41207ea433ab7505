//! Files: a hypernetwork's own checkpoint, and the generated weights as the target's.
//!
//! Both are safetensors. A hypernetwork's carries in its metadata the whole declaration: the target's
//! layout, line by line, the settings of its layers, embedding, generator, mode and init; and a SHA-256
//! over all tensors. A file of another declaration, or an altered one, is refused with the first
//! difference, before anything is changed. What older files do not say is not compared.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::VarBuilder;
use sha2::{Digest, Sha256};

use super::core::{Core, PartNames};
use super::measures::{MEASURES, first_other, measures};
use super::params::SETS;
use crate::error::bail;
use crate::files::{NamedTensors, Snapshot, hex};
use crate::generated::{GeneratedParams, TargetPlan};
use crate::init::{InitScheme, moments};
use crate::param::KeptTensor;
use crate::structure::layout::{Layout, ParamInfo, first_difference, meaning};
use crate::structure::role::Role;
use crate::structure::value::is_stored_name;
use crate::{error, files};

const NETWORK: &str = "hypernn.network";
const TARGET: &str = "hypernn.target";
const VERSION: &str = "hypernn.version";
const LAYOUT: &str = "hypernn.layout";
const LAYOUT_HASH: &str = "hypernn.layout_sha256";
pub(super) const TENSORS_HASH: &str = "hypernn.tensors_sha256";
const PRETRAINED_HASH: &str = "hypernn.pretrained_sha256";
pub(super) const METADATA_HASH: &str = "hypernn.metadata_sha256";
const LAYERS: &str = "hypernn.layers";
const TIES: &str = "hypernn.ties";
const EMBEDDING: &str = "hypernn.embedding";
const GENERATOR: &str = "hypernn.generator";
const MODE: &str = "hypernn.mode";
const INIT: &str = "hypernn.init";
const MOMENTS: &str = "hypernn.moments";
const FINGERPRINT: &str = "pretrained_sha256.";

pub(super) type Metadata = HashMap<String, String>;

impl<T> Core<T> {
    /// Writes the hypernetwork's variables, bases and buffers.
    ///
    /// The file is written beside `path` under another name and then renamed, so that `path` never
    /// holds half a checkpoint.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut snapshot = Snapshot::take(self.named_tensors())?;
        let mut metadata = self.metadata();
        metadata.extend(self.declaration().map(|(key, value)| (key.to_owned(), value)));
        metadata.insert(MOMENTS.to_owned(), moments_of(self.layout()));
        metadata.insert(TENSORS_HASH.to_owned(), snapshot.hash());
        if let Some(pretrained) = self.pretrained_hash()? {
            snapshot.add(&fingerprint(self.kind().0), &text_tensor(&pretrained)?)?;
            snapshot.add(MEASURES, &measures(&self.pretrained_tensors())?)?;
            metadata.insert(PRETRAINED_HASH.to_owned(), pretrained);
        }
        metadata.insert(METADATA_HASH.to_owned(), hash_of_metadata(&metadata));
        snapshot.write(path.as_ref(), metadata)
    }

    /// Reads what [`save`](Self::save) wrote, into the variables of this hypernetwork.
    ///
    /// # Errors
    /// The file is not a whole checkpoint of this target with these parts, or its tensors were
    /// altered; the first difference is named, and nothing has changed.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let found = Checkpoint::read(path);
        let checked = found.and_then(|found| self.checked(&found));
        let checked = checked.map_err(|err| files::can_not("load", path, &err))?;
        for (var, value) in checked {
            var.set(&value)?;
        }
        Ok(())
    }

    /// Writes one set of parameters that this network generated as an ordinary checkpoint of the target:
    /// its own names, its buffers included, no trace of the hypernetwork but a line of metadata.
    ///
    /// # Errors
    /// Parameters of several sets or of another layout, or the file can't be written.
    pub fn export_params(&self, params: &GeneratedParams<T>, path: impl AsRef<Path>) -> Result<()> {
        if let Some(sets) = params.num_sets() {
            bail!(condition, "a checkpoint holds one set of weights, the condition gives {sets}");
        }
        if let Some((found, expected)) = params.plan().layout.difference(self.layout()) {
            let message = format!(
                "the parameters are of another layout: they have `{found}`, {} has `{expected}`",
                self.plan.name
            );
            return Err(error::difference(message, &found, &expected));
        }
        let named = params.named()?;
        let named = named.iter().map(|(name, tensor)| (name.as_str(), tensor));
        Snapshot::take(named)?.write(path.as_ref(), self.metadata())
    }

    fn metadata(&self) -> Metadata {
        let mut metadata = metadata_of(&self.plan);
        metadata.insert(NETWORK.to_owned(), self.name.to_owned());
        metadata
    }

    /// What was declared beside the target.
    fn declaration(&self) -> [(&'static str, String); 4] {
        let PartNames { embedding_in_files, generator, mode, .. } = &self.parts;
        [
            (EMBEDDING, embedding_in_files.clone()),
            (GENERATOR, generator.clone()),
            (MODE, (*mode).to_owned()),
            (INIT, self.scheme.name().to_owned()),
        ]
    }

    /// SHA-256 over what is taken from a pretrained network and is in no checkpoint.
    fn pretrained_hash(&self) -> Result<Option<String>> {
        let tensors = self.pretrained_tensors();
        if tensors.is_empty() { Ok(None) } else { hash(&tensors).map(Some) }
    }

    /// What is taken from a pretrained network and is in no checkpoint.
    fn pretrained_tensors(&self) -> Vec<(String, KeptTensor)> {
        let TargetPlan { layout, initial_values, .. } = &*self.plan;
        let params = layout.params().iter().enumerate();
        let params = params
            .filter_map(|(i, at)| Some((at.name.clone(), initial_values.param(i)?.clone().into())));
        let frozen = layout.kept().iter().enumerate();
        let frozen = frozen.filter(|(_, kept)| kept.role == Role::Freeze);
        let frozen =
            frozen.filter_map(|(i, at)| Some((at.name.clone(), initial_values.kept(i)?.clone())));
        let constants = self.plan.constants().filter(|(_, tensor)| tensor.elem_count() > 0);
        let constants = constants.map(|(name, tensor)| (name.to_owned(), tensor.clone().into()));
        params.chain(frozen).chain(constants).collect()
    }

    /// A builder over the tensors of a checkpoint has those of one that was saved over this pretrained
    /// network. Where it has variables of its own it says nothing of one. Where its checkpoint is of another dtype,
    /// whose hash is another, measures of the tensors are compared.
    pub(super) fn check_builder(&self, vb: &VarBuilder<'_>) -> Result<()> {
        let floats = [DType::F32, DType::F64, DType::F16, DType::BF16];
        let saved_over = floats.into_iter().find(|dtype| vb.contains_tensor(&fingerprint(*dtype)));
        let Some(saved_over) = saved_over else { return Ok(()) };
        let expected = self.pretrained_hash()?;
        if expected.is_some() && saved_over != vb.dtype() {
            let same = self.check_measures(vb, saved_over);
            return same.map_err(|err| self.of_a_checkpoint(&err));
        }
        // A builder may say that it has every name, as `VarBuilder::zeros` does.
        let Ok(found) = vb.get_unchecked_dtype(&fingerprint(saved_over), DType::U8) else {
            return Ok(());
        };
        let found = String::from_utf8_lossy(&found.to_vec1::<u8>()?).into_owned();
        let same = check_pretrained(Some(&found), expected.as_deref());
        same.map_err(|err| self.of_a_checkpoint(&err))
    }

    fn of_a_checkpoint(&self, err: &candle_core::Error) -> candle_core::Error {
        error::reworded(err, |err| {
            format!("the builder has the tensors of a checkpoint of {}: {err}", self.name)
        })
    }

    /// The pretrained network is about that of a checkpoint of another dtype, `saved`. Files of before have no measures.
    fn check_measures(&self, vb: &VarBuilder<'_>, saved: DType) -> Result<()> {
        let Ok(found) = vb.get_unchecked_dtype(MEASURES, DType::F64) else { return Ok(()) };
        let Some(name) = first_other(&found, &self.pretrained_tensors(), saved)? else {
            return Ok(());
        };
        bail!(
            layout,
            "it was saved over another pretrained network: `{name}` has other values there, by more than rounding"
        );
    }

    /// Each variable with its new value, after every check has passed.
    fn checked(&self, found: &Checkpoint) -> Result<Vec<(Var, Tensor)>> {
        found.check_version()?;
        if found.metadata.contains_key(SETS) {
            bail!(
                layout,
                "it holds generated parameters, which `load_params` reads, and no hypernetwork"
            );
        }
        found.check_target(self.plan.name, self.layout())?;
        found.check_declaration(self.name, self.declaration())?;
        if self.scheme == InitScheme::Exact {
            found.check_moments(self.plan.name, self.layout())?;
        }
        check_pretrained(
            found.metadata.get(PRETRAINED_HASH).map(String::as_str),
            self.pretrained_hash()?.as_deref(),
        )?;
        let known = self.named_tensors().filter(|(name, _)| found.should_have(name));
        let pairs = known.map(|(name, var)| {
            let value = found.tensor(name, var)?;
            if !var.is_variable() {
                bail!(declaration, "`{name}` is not a variable of this hypernetwork: build it from a VarMap to load into it");
            }
            Ok((Var::from_tensor(var)?, value.to_device(var.device())?))
        });
        let pairs = pairs.collect::<Result<Vec<_>>>()?;
        let names: Vec<_> = self.named_tensors().map(|(name, _)| name).collect();
        found.check_whole(&names)?;
        Ok(pairs)
    }
}

/// What every file says of its target, and the version that wrote it.
pub(super) fn metadata_of<T>(plan: &TargetPlan<T>) -> Metadata {
    let entries = [
        (TARGET, plan.name.to_owned()),
        (VERSION, env!("CARGO_PKG_VERSION").to_owned()),
        (LAYOUT, plan.layout.to_string()),
        (LAYOUT_HASH, plan.layout.hash().to_owned()),
        (LAYERS, lines(plan.layout.layers())),
    ];
    let ties = plan.layout.ties().next().map(|_| (TIES, lines(plan.layout.ties())));
    entries.into_iter().chain(ties).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What is said of a path, such as a layer's settings, one in a line.
fn lines<'a>(said: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let lines = said.map(|(path, what)| format!("{path}: {what}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The first of which a text says something else than is expected; what only one of both knows is not compared.
fn other_line<'a>(
    text: &'a str,
    expected: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<(&'a str, &'a str, &'a str)> {
    let found: HashMap<_, _> = text.lines().filter_map(|line| line.split_once(": ")).collect();
    let mut both = expected.filter_map(|(path, own)| Some((path, *found.get(path)?, own)));
    both.find(|(_, found, own)| found != own)
}

/// A checkpoint in memory.
pub(super) struct Checkpoint {
    pub(super) metadata: Metadata,
    pub(super) tensors: HashMap<String, Tensor>,
    left_out: HashMap<String, String>,
}

impl Checkpoint {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let NamedTensors { tensors, left_out, metadata } = files::read(path)?;
        Ok(Self { metadata, tensors, left_out })
    }

    pub(super) fn entry(&self, key: &str) -> Result<&str> {
        match self.metadata.get(key) {
            Some(value) => Ok(value),
            None => {
                bail!(
                    file,
                    "no `{key}` in its metadata: it was not written by `save` of a hypernetwork"
                )
            }
        }
    }

    /// The file is not of a later version than this one knows.
    pub(super) fn check_version(&self) -> Result<()> {
        let Some(found) = self.metadata.get(VERSION) else { return Ok(()) };
        let own = env!("CARGO_PKG_VERSION");
        match (epoch(found), epoch(own)) {
            (Some(theirs), Some(ours)) if theirs > ours => bail!(
                file,
                "it was written by hypernn {found}, whose files hypernn {own}, which reads it, may not know: use the later one"
            ),
            (None, _) => {
                bail!(file, "its `{VERSION}` is `{found}`, expected a version such as {own}")
            }
            _ => Ok(()),
        }
    }

    fn check_layout(&self, target: &str, layout: &Layout) -> Result<()> {
        let (text, hash) = (self.entry(LAYOUT)?, self.entry(LAYOUT_HASH)?);
        let is_own = layout.has_hash(hash, text);
        let Some((found, expected)) = first_difference(text, &layout.to_string()) else {
            if is_own {
                return Ok(());
            }
            bail!(
                file,
                "its metadata were altered: its layout is that of {target}, but `{LAYOUT_HASH}` is {hash}, expected {}",
                layout.hash()
            );
        };
        // The hash does not tell kinds apart.
        if is_own && meaning(&found) != meaning(&expected) {
            bail!(
                file,
                "its metadata were altered: `{LAYOUT_HASH}` is that of {target}, but its layout has `{found}`, expected `{expected}`"
            );
        }
        let message = format!(
            "it is a checkpoint for target {}; the first difference in layout: the file has `{found}`, {target} has `{expected}`",
            self.entry(TARGET)?,
        );
        Err(error::difference(message, &found, &expected))
    }

    /// The file is of this target: its layout, what its layers compute with, and which tensors are tied.
    pub(super) fn check_target(&self, target: &str, layout: &Layout) -> Result<()> {
        self.check_layout(target, layout)?;
        self.check_layers(target, layout)?;
        self.check_ties(target, layout)
    }

    /// Layers that are in both compute alike.
    fn check_layers(&self, target: &str, layout: &Layout) -> Result<()> {
        let text = self.metadata.get(LAYERS).map_or("", String::as_str);
        let Some((path, found, expected)) = other_line(text, layout.layers()) else {
            return Ok(());
        };
        let layer = match path {
            "" => "target".to_owned(),
            path => format!("layer `{path}`"),
        };
        let message = format!(
            "its {layer} has other settings: the file has `{found}`, {target} has `{expected}`"
        );
        Err(error::difference(message, found, expected))
    }

    /// Parameters that are tied in both are the same tensor's. Files of 0.1 say nothing of ties, nor does a target by
    /// constructor.
    fn check_ties(&self, target: &str, layout: &Layout) -> Result<()> {
        let text = self.metadata.get(TIES).map_or("", String::as_str);
        let Some((path, found, expected)) = other_line(text, layout.ties()) else { return Ok(()) };
        let message = format!(
            "its `{path}` is tied otherwise: to `{found}` in the file, to `{expected}` in {target}"
        );
        Err(error::difference(message, found, expected))
    }

    /// Tensors start alike, since what is generated for each is scaled to that. Files of 0.1 do not say how.
    fn check_moments(&self, target: &str, layout: &Layout) -> Result<()> {
        let Some(text) = self.metadata.get(MOMENTS) else { return Ok(()) };
        let own = moments_of(layout);
        let Some((found, expected)) = text.lines().zip(own.lines()).find(|(a, b)| a != b) else {
            return Ok(());
        };
        let message = format!(
            "its tensors start otherwise (mean, deviation): the file has `{found}`, {target} has `{expected}`"
        );
        Err(error::difference(message, found, expected))
    }

    fn check_declaration(&self, own: &str, declared: [(&str, String); 4]) -> Result<()> {
        for (key, expected) in declared {
            match self.metadata.get(key) {
                Some(found) if *found != expected => {
                    let part = key.trim_start_matches("hypernn.");
                    let message = format!(
                        "it was saved with another {part}: the file has `{found}`, {own} has `{expected}`"
                    );
                    return Err(error::difference(message, found, &expected));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn tensor(&self, name: &str, var: &Tensor) -> Result<Tensor> {
        let Some(tensor) = self.tensors.get(name) else {
            let expected = format!("expected {:?} of shape {:?}", var.dtype(), var.dims());
            match self.left_out.get(name) {
                Some(kind) => bail!(layout, "tensor `{name}` is {kind}, {expected}"),
                None => bail!(layout, "no tensor `{name}`, {expected}"),
            }
        };
        // The dtype of running statistics may follow the target's, which may be another now.
        let other = tensor.dtype() != var.dtype() && !name.starts_with("buffers.");
        if tensor.dims() != var.dims() || other {
            let kind = if tensor.dims() == var.dims() { error::dtype } else { error::layout };
            return Err(kind(format!(
                "tensor `{name}` is {:?} of shape {:?}, expected {:?} of shape {:?}",
                tensor.dtype(),
                tensor.dims(),
                var.dtype(),
                var.dims()
            )));
        }
        tensor.to_dtype(var.dtype())
    }

    /// The file has the tensors of these names and no others, and nothing in it was altered.
    pub(super) fn check_whole(&self, known: &[&str]) -> Result<()> {
        self.check_names(known)?;
        self.check_hash(known)?;
        self.check_metadata()
    }

    fn check_names(&self, known: &[&str]) -> Result<()> {
        let found = self.tensors.keys().chain(self.left_out.keys());
        let found = found.filter(|name| !name.starts_with(FINGERPRINT) && *name != MEASURES);
        let unknown = found.filter(|name| !known.contains(&name.as_str())).min();
        unknown
            .map_or(Ok(()), |name| bail!(layout, "tensor `{name}` is none of this hypernetwork's"))
    }

    /// Whether it lacks a tensor where it has none of this name: version 0.1 did not write what a
    /// target makes for itself.
    fn should_have(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || !is_stored_name(name)
    }

    fn check_hash(&self, names: &[&str]) -> Result<()> {
        let names = names.iter().filter(|name| self.tensors.contains_key(**name));
        let tensors: Vec<_> =
            names.map(|name| ((*name).to_owned(), self.tensors[*name].clone().into())).collect();
        let (expected, found) = (self.entry(TENSORS_HASH)?, hash(&tensors)?);
        if found != expected {
            bail!(
                file,
                "its tensors were altered after it was saved: SHA-256 {found}, expected {expected}"
            );
        }
        Ok(())
    }

    /// Files of 0.1 have no such hash, all later ones do.
    fn check_metadata(&self) -> Result<()> {
        let Some(expected) = self.metadata.get(METADATA_HASH) else {
            if self.metadata.get(VERSION).and_then(|version| epoch(version)) < Some((0, 2)) {
                return Ok(());
            }
            bail!(
                file,
                "its metadata were altered after it was saved: `{METADATA_HASH}` is missing"
            );
        };
        let found = hash_of_metadata(&self.metadata);
        if found != *expected {
            bail!(
                file,
                "its metadata were altered after it was saved: SHA-256 {found}, expected {expected}"
            );
        }
        Ok(())
    }
}

/// What is in the metadata beside what is declared: the version, and hashes that are compared by themselves.
const NOT_HASHED: [&str; 3] = [VERSION, TENSORS_HASH, METADATA_HASH];

/// SHA-256 over what a file says of itself in its metadata.
pub(super) fn hash_of_metadata(metadata: &Metadata) -> String {
    let is_hashed = |key: &str| key.starts_with("hypernn.") && !NOT_HASHED.contains(&key);
    let mut entries: Vec<_> = metadata.iter().filter(|(key, _)| is_hashed(key)).collect();
    entries.sort_unstable();
    let mut hasher = Sha256::new();
    for (key, value) in entries {
        hasher.update(format!("{key} {}\n{value}\n", value.len()));
    }
    hex(&hasher.finalize())
}

/// A checkpoint was saved over the pretrained network of this hash, or over none, as this one has none.
fn check_pretrained(found: Option<&str>, expected: Option<&str>) -> Result<()> {
    match (found, expected) {
        (None, None) => Ok(()),
        (Some(found), Some(expected)) if found == expected => Ok(()),
        (Some(found), Some(expected)) => bail!(
            layout,
            "it was saved over another pretrained network: SHA-256 {found}, expected {expected}"
        ),
        (Some(_), None) => bail!(
            layout,
            "it was saved over a pretrained network, but this hypernetwork has none: build it by `new_from`"
        ),
        (None, Some(_)) => bail!(
            layout,
            "it was saved without a pretrained network, but this hypernetwork has one: build it by `new`"
        ),
    }
}

/// A line for each generated tensor: its name, and the mean and deviation of its init.
fn moments_of(layout: &Layout) -> String {
    let line = |param: &ParamInfo| {
        let (mean, deviation) = moments(param.init, &param.shape);
        format!("{}: {mean} {deviation}\n", param.name)
    };
    layout.params().iter().map(line).collect()
}

/// The part of a version that must not be later: before 1.0, each minor version may change all.
fn epoch(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().ok());
    let (major, minor) = (numbers.next()??, numbers.next()??);
    Some((major, if major == 0 { minor } else { 0 }))
}

/// The name of the tensor that says over which pretrained network a checkpoint of this dtype was saved:
/// what builds from a file's tensors by a `VarBuilder` sees no metadata.
fn fingerprint(dtype: DType) -> String {
    format!("{FINGERPRINT}{}", dtype.as_str())
}

/// A text as its bytes.
fn text_tensor(text: &str) -> Result<Tensor> {
    Tensor::new(text.as_bytes(), &Device::Cpu)
}

/// SHA-256 over names, dtypes, shapes and values, as of a [`Snapshot`]; of what is quantised over the values that it stands
/// for, so that a network has the same hash either way.
pub(super) fn hash(tensors: &[(String, KeptTensor)]) -> Result<String> {
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut hasher = Sha256::new();
    for (name, tensor) in sorted {
        let tensor = tensor.dense()?;
        hasher.update(format!("{name} {:?} {:?}\n", tensor.dtype(), tensor.dims()));
        let mut bytes = Vec::new();
        tensor.write_bytes(&mut bytes)?;
        hasher.update(&bytes);
    }
    Ok(hex(&hasher.finalize()))
}
