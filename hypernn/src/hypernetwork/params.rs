//! Files of generated parameters: an adapter, say, that a network serves later.
//!
//! A file holds the generated tensors under their names in the layout, and running statistics; its
//! metadata has the layout, the number of sets, and a hash of each tensor that is not generated, which the
//! network keeps.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Result, Tensor, Var};

use super::checkpoint::{
    Checkpoint, METADATA_HASH, Metadata, TENSORS_HASH, hash, hash_of_metadata, metadata_of,
};
use super::core::Core;
use crate::error::bail;
use crate::files::{Snapshot, can_not};
use crate::generated::stack::same;
use crate::generated::{GeneratedParams, Kept, TargetPlan};
use crate::param::KeptTensor;
use crate::structure::layout::{BufferInfo, Layout};
use crate::structure::role::Role;

/// The number of sets, or [`ONE`].
pub(super) const SETS: &str = "hypernn.sets";

/// One set serves every row.
const ONE: &str = "one for every row";

/// A line for each tensor that is not generated: its name and its hash.
const KEPT: &str = "hypernn.kept_sha256";

impl<T> GeneratedParams<T> {
    /// Writes them as safetensors, by the names of the [layout](Self::layout): the generated tensors,
    /// `[dims…]`, or `[G, dims…]` for `G` sets, and running statistics. Trained and frozen tensors stay
    /// with the network, and the file has a hash of each; where these are to be read again, keep the
    /// network's checkpoint beside it. `load_params` of the network reads it.
    ///
    /// The file is written beside `path` under another name and then renamed, so that `path` never
    /// holds half a file.
    ///
    /// ```
    /// use candle_core::{DType, Device, Result, Tensor};
    /// use hypernn::nn::{Linear, VarBuilder, VarMap};
    /// use hypernn::{HyperTarget, hypernetwork};
    ///
    /// #[derive(HyperTarget)]
    /// #[hyper(sequential)]
    /// struct Net {
    ///     #[hyper(linear(4, 2))]
    ///     fc: Linear,
    /// }
    ///
    /// hypernetwork! {
    ///     struct HyperNet for Net { embedding: tasks(3, 5, 4), generator: linear, mode: dynamic }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
    /// let params = hyper.generate_params(&Tensor::new(1u32, &Device::Cpu)?)?;
    /// let path = std::env::temp_dir().join("hypernn_adapter.safetensors");
    /// params.save(&path)?;
    /// let loaded = hyper.load_params(&path)?;
    /// let xs = Tensor::ones((3, 4), DType::F32, &Device::Cpu)?;
    /// assert_eq!(loaded.forward(&xs)?.to_vec2::<f32>()?, params.forward(&xs)?.to_vec2::<f32>()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The file can't be written; adapters that [`concat_rank`](Self::concat_rank) made, which no network loads.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        if self.is_of_other_ranks() {
            bail!(
                layout,
                "adapters that were put together have other ranks than the network, which could not load them: save the sets that they were put together of, or the adapter by `save_peft`"
            );
        }
        let params = self.tensors().map(|(param, tensor)| (param.name.as_str(), tensor));
        let buffers = self.layout().buffers().iter().zip(self.kept().buffers.iter());
        let buffers = buffers.map(|(buffer, tensor)| (buffer.name.as_str(), tensor));
        let snapshot = Snapshot::take(params.chain(buffers))?;
        let mut metadata = self.metadata()?;
        metadata.insert(TENSORS_HASH.to_owned(), snapshot.hash());
        metadata.insert(METADATA_HASH.to_owned(), hash_of_metadata(&metadata));
        snapshot.write(path.as_ref(), metadata)
    }

    fn metadata(&self) -> Result<Metadata> {
        let sets = self.num_sets().map_or(ONE.to_owned(), |sets| sets.to_string());
        let mut metadata = metadata_of(self.plan());
        metadata.insert(SETS.to_owned(), sets);
        metadata.insert(KEPT.to_owned(), self.kept().lines(self.plan())?);
        Ok(metadata)
    }
}

impl Kept {
    /// The name and hash of each tensor that is not generated.
    fn lines<T>(&self, plan: &TargetPlan<T>) -> Result<String> {
        let layout = &plan.layout;
        let mut frozen = self.frozen_hashes(layout)?.iter();
        let mut lines = String::new();
        for (info, tensor) in layout.kept().iter().zip(&*self.params) {
            let hash = match frozen.next().filter(|_| info.role == Role::Freeze) {
                Some(hash) if !hash.is_empty() => hash.clone(),
                _ => hash_of(tensor.clone())?,
            };
            lines += &format!("{} {hash}\n", info.name);
        }
        for (name, tensor) in plan.values.names.iter().zip(&*self.values) {
            lines += &format!("{name} {}\n", hash_of(tensor.clone())?);
        }
        // Parts of the model that a constructor took from its pretrained network as they are.
        let mut constants: Vec<_> = plan.constants().collect();
        constants.sort_by_key(|(name, _)| *name);
        for (name, tensor) in constants {
            lines += &format!("{name} {}\n", hash_of(tensor.clone())?);
        }
        Ok(lines)
    }

    /// Empty for a tensor that is trained.
    fn frozen_hashes(&self, layout: &Layout) -> Result<&[String]> {
        if let Some(hashes) = self.hashes.get() {
            return Ok(hashes);
        }
        let kept = layout.kept().iter().zip(&*self.params);
        let hashes = kept.map(|(info, tensor)| match info.role {
            Role::Freeze => hash_of(tensor.clone()),
            _ => Ok(String::new()),
        });
        let hashes = hashes.collect::<Result<Vec<_>>>()?;
        Ok(self.hashes.get_or_init(|| hashes))
    }
}

fn hash_of(tensor: impl Into<KeptTensor>) -> Result<String> {
    hash(&[(String::new(), tensor.into().detach())])
}

impl<T> Core<T> {
    /// Reads parameters that [`GeneratedParams::save`] wrote: an adapter, say, for this network. They
    /// are as they were when they were saved, in their dtype, on this network's device; no gradient
    /// flows back. What is not generated is what this network keeps.
    ///
    /// # Errors
    /// The file is not a whole file of generated parameters of this target, was altered, or was saved
    /// over other trained or frozen tensors: the first difference is named.
    pub fn load_params(&self, path: impl AsRef<Path>) -> Result<GeneratedParams<T>> {
        let path = path.as_ref();
        let found = Checkpoint::read(path).and_then(|found| self.params_of(&found));
        found.map_err(|err| can_not("load", path, &err))
    }

    fn params_of(&self, found: &Checkpoint) -> Result<GeneratedParams<T>> {
        let (layout, sets) = (self.layout(), found.sets()?);
        found.check_version()?;
        found.check_target(self.plan.name, layout)?;
        found.check_kept(&self.kept.lines(&self.plan)?)?;
        let (_, device) = self.kind();
        let tensors = layout.params().iter().map(|param| {
            let shape = [sets.as_slice(), param.shape.dims()].concat();
            found.generated(&param.name, &shape)?.to_device(device)
        });
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        let kept = self.kept.with_buffers_of(found, layout, sets)?;
        let params = layout.params().iter().map(|param| param.name.as_str());
        let names = params.chain(layout.buffers().iter().map(|buffer| buffer.name.as_str()));
        found.check_whole(&names.collect::<Vec<_>>())?;
        Ok(GeneratedParams::from_tensors(self.plan.clone(), tensors, sets, kept))
    }
}

impl Kept {
    /// What is kept, with the running statistics of a file where they are others than these.
    fn with_buffers_of(
        &self,
        found: &Checkpoint,
        layout: &Layout,
        sets: Option<usize>,
    ) -> Result<Self> {
        let pairs = layout.buffers().iter().zip(&*self.buffers);
        let buffers = pairs.map(|(info, own)| {
            let buffer = found.buffer(info, sets)?.to_dtype(own.dtype())?;
            buffer.to_device(own.device())
        });
        let buffers = buffers.collect::<Result<Vec<_>>>()?;
        let mut pairs = buffers.iter().zip(&*self.buffers);
        if pairs.try_fold(true, |all, (found, own)| {
            Ok::<_, candle_core::Error>(all && same(found, own)?)
        })? {
            return Ok(self.clone());
        }
        let each = layout.buffers().iter().zip(&buffers);
        let mut by_set = each.map(|(info, buffer)| buffer.rank() > info.shape.rank());
        let buffer_sets = sets.filter(|_| by_set.next().unwrap_or(false));
        let buffers = buffers.iter().map(|buffer| Ok(Var::from_tensor(buffer)?.into_inner()));
        Ok(Self { buffers: buffers.collect::<Result<Arc<[_]>>>()?, buffer_sets, ..self.clone() })
    }
}

impl Checkpoint {
    fn sets(&self) -> Result<Option<usize>> {
        let Some(sets) = self.metadata.get(SETS) else {
            bail!(
                file,
                "no `{SETS}` in its metadata: it was not written by `save` of generated parameters"
            );
        };
        match sets.parse() {
            _ if sets == ONE => Ok(None),
            Ok(0) | Err(_) => {
                bail!(file, "`{SETS}` in its metadata is `{sets}`, expected a number of sets")
            }
            Ok(sets) => Ok(Some(sets)),
        }
    }

    /// The network keeps what these were saved over.
    fn check_kept(&self, expected: &str) -> Result<()> {
        let mut found = self.entry(KEPT)?.lines();
        for line in expected.lines() {
            if found.next() != Some(line) {
                let name = line.rsplit_once(' ').map_or(line, |(name, _)| name);
                bail!(
                    layout,
                    "it was saved over other values of `{name}`, which is not generated: load the network's checkpoint of that time, or build it over the same pretrained network"
                );
            }
        }
        Ok(())
    }

    fn generated(&self, name: &str, dims: &[usize]) -> Result<Tensor> {
        let Some(tensor) = self.tensors.get(name) else {
            bail!(layout, "no tensor `{name}`, expected shape {dims:?}");
        };
        if tensor.dims() != dims || !tensor.dtype().is_float() {
            bail!(
                layout,
                "tensor `{name}` is {:?} of shape {:?}, expected a floating dtype and shape {dims:?}",
                tensor.dtype(),
                tensor.dims()
            );
        }
        Ok(tensor.clone())
    }

    /// The running statistics of a file, `[dims…]` for all sets or `[G, dims…]` with those of each.
    fn buffer(&self, info: &BufferInfo, sets: Option<usize>) -> Result<Tensor> {
        let dims = info.shape.dims();
        let by_set = self.tensors.get(&info.name).is_some_and(|found| found.rank() > dims.len());
        let sets = sets.filter(|_| by_set);
        self.generated(&info.name, &[sets.as_slice(), dims].concat())
    }
}
