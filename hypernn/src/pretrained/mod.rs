//! A pretrained network: where a hypernetwork's target starts.

pub(crate) mod peft;

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::error::{bail, layout, plain};
use crate::files::peft::PeftAdapter;
use crate::files::{self, Network};
use crate::finite::ensure_finite;
use crate::structure::layout::Layout;
use crate::structure::role::matches;
use crate::structure::source::ParamKind;

/// A pretrained network of the target's shape, by the names of its tensors.
///
/// `new_from`, of a type that `hypernetwork!` emits, takes one. The hypernetwork then starts as
/// exactly this network, and learns the difference:
///
/// - a generated tensor is the pretrained one, plus what the generator gives, less what it gave
///   first. With `mode: dynamic`, where what it gives depends on the condition from the start, that is
///   multiplied by a gain, one variable per tensor, which starts at zero;
/// - a trained one starts from it, a frozen one is it, and so do running statistics.
///
/// A target [by constructor](crate::constructor) is the model that its constructor builds from this
/// network: what it looks for is there, or not, as in the network.
///
/// Any `VarBuilder` is one: safetensors, PyTorch's files, variables in memory, each with a prefix by
/// `pp`. Tensors that it has beside those of the target are left alone.
///
/// ```
/// use candle_core::{DType, Device, Module, Result, Tensor};
/// use hypernn::nn::{Linear, VarBuilder, VarMap, relu};
/// use hypernn::{HyperTarget, Pretrained, hypernetwork};
///
/// #[derive(HyperTarget)]
/// struct Net {
///     #[hyper(linear(4, 8))]
///     trunk: Linear,
///     #[hyper(linear(8, 2))]
///     head: Linear,
/// }
///
/// impl Module for Net {
///     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
///         self.head.forward(&relu(&self.trunk.forward(xs)?)?)
///     }
/// }
///
/// hypernetwork! {
///     struct HyperNet for Net { embedding: table(29, 3), generator: linear, mode: static }
/// }
///
/// # fn main() -> Result<()> {
/// // A file of an ordinary network.
/// let trained = VarMap::new();
/// let net = Net::new(VarBuilder::from_varmap(&trained, DType::F32, &Device::Cpu))?;
/// let path = std::env::temp_dir().join("hypernn_pretrained.safetensors");
/// trained.save(&path)?;
///
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let hyper = HyperNet::new_from(vb.clone(), Pretrained::open(&path)?)?;
/// let xs = Tensor::randn(0f32, 1., (5, 4), &Device::Cpu)?;
/// assert_eq!(hyper.forward(&xs)?.to_vec2::<f32>()?, net.forward(&xs)?.to_vec2::<f32>()?);
///
/// // A head that starts as a fresh one does; all else must be in the file.
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let hyper = HyperNet::new_from(vb, Pretrained::open(&path)?.without("head.*"))?;
/// assert_ne!(hyper.forward(&xs)?.to_vec2::<f32>()?, net.forward(&xs)?.to_vec2::<f32>()?);
/// # Ok(())
/// # }
/// ```
pub struct Pretrained<'a> {
    vb: VarBuilder<'a>,
    /// The names of its tensors, where they are known.
    names: Option<Vec<String>>,
    /// Patterns of tensors that start as in a fresh network.
    without: Vec<String>,
    /// What is wrong with a prefix.
    problem: Option<String>,
    /// Whether values that are not finite are an error.
    finite: bool,
    /// What adapters start at, and where it was read.
    adapter: Option<(PathBuf, PeftAdapter)>,
}

impl std::fmt::Debug for Pretrained<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pretrained").field("without", &self.without).finish_non_exhaustive()
    }
}

impl<'a> From<VarBuilder<'a>> for Pretrained<'a> {
    fn from(vb: VarBuilder<'a>) -> Self {
        Self { vb, names: None, without: Vec::new(), problem: None, finite: false, adapter: None }
    }
}

impl Pretrained<'static> {
    /// The tensors of a file by name: safetensors, a `state_dict` that PyTorch's `torch.save` wrote, or GGUF.
    ///
    /// A model in several files is opened by its index, `model.safetensors.index.json`, with the shards beside it, or
    /// by its folder, as Hugging Face lays it out: `model.safetensors`, else its index, else `pytorch_model.bin`, else
    /// its index.
    ///
    /// Of a GGUF file, quantised tensors are dequantised when the target asks for them;
    /// `keep_quantized` keeps those that are frozen as they are. For the architectures `llama`
    /// (Llama, Mistral, SmolLM2), `qwen2` and `bert`, tensors go by the names that Hugging Face gives
    /// (`model.layers.0.self_attn.q_proj.weight`), and the rows of `llama`'s queries and keys, which llama.cpp keeps in
    /// another order, are put back into Hugging Face's. Other architectures keep the names of the file
    /// (`blk.0.attn_q.weight`). A head that is tied to the embeddings, `lm_head.weight`, is not in the file. What else a
    /// program needs of it, its metadata, [`Gguf`](crate::gguf::Gguf) reads.
    ///
    /// A `state_dict` may lie in a dictionary, as in what a training saves: it is found where it is the
    /// only one, the optimiser's left out, or goes by a usual name, such as `state_dict` or `model`. Where
    /// there are several of other names, as `generator` and `discriminator`, these are in front of
    /// their tensors' names, and [`strip_prefix`](Self::strip_prefix) chooses one. Files in the form of
    /// PyTorch before 1.6 and modules of TorchScript are read as well. Tensors of int32, int16, int8 and
    /// bool, complex, quantised and sparse ones are not, and say so where the target asks for them.
    ///
    /// The file may come from anywhere: none of its code is run, and what it takes in memory is bounded
    /// by its length.
    ///
    /// # Errors
    /// There is no such file, or it is none of these; then what it is instead. It is not whole, a shard is missing, or
    /// lacks a tensor that the index has in it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let (mut names, backend): (Vec<_>, Box<dyn SimpleBackend>) =
            match files::open_network(path.as_ref())? {
                Network::Named(found) => {
                    let names = found.tensors.keys().chain(found.left_out.keys());
                    (names.cloned().collect(), Box::new(found))
                }
                Network::Gguf(found) => {
                    (found.names().map(str::to_owned).collect(), Box::new(found))
                }
            };
        names.sort_unstable();
        let vb = VarBuilder::from_backend(backend, DType::F32, Device::Cpu);
        Ok(Self { names: Some(names), ..vb.into() })
    }
}

impl<'a> Pretrained<'a> {
    /// This network with names from which a prefix is taken, such as `module.`, which PyTorch's
    /// `DataParallel` puts in front. Names without it stay as they are.
    ///
    /// ```
    /// use std::collections::HashMap;
    ///
    /// use candle_core::{DType, Device, Result, Tensor};
    /// use hypernn::nn::{Linear, VarBuilder, VarMap};
    /// use hypernn::{HyperTarget, Pretrained, hypernetwork};
    ///
    /// #[derive(HyperTarget)]
    /// #[hyper(sequential)]
    /// struct Net {
    ///     #[hyper(linear(4, 2))]
    ///     fc: Linear,
    /// }
    ///
    /// hypernetwork! {
    ///     struct HyperNet for Net { embedding: table(5, 3), generator: linear, mode: static }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let ones = |dims: &[usize]| Tensor::ones(dims, DType::F32, &Device::Cpu);
    /// let tensors =
    ///     HashMap::from([("module.fc.weight", ones(&[2, 4])?), ("module.fc.bias", ones(&[2])?)]);
    /// let path = std::env::temp_dir().join("hypernn_prefix.safetensors");
    /// candle_core::safetensors::save(&tensors, &path)?;
    ///
    /// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    /// let pretrained = Pretrained::open(&path)?.strip_prefix("module.");
    /// let hyper = HyperNet::new_from(vb, pretrained)?;
    /// assert_eq!(hyper.generate_params()?.flat()?.to_vec1::<f32>()?, [1.; 10]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Building a hypernetwork from it is an error where no name of a file has the prefix.
    #[must_use]
    pub fn strip_prefix(self, prefix: &str) -> Self {
        self.renamed(Rename::Strip(prefix.to_owned()))
    }

    /// This network with a prefix in front of all names: for a target that is a part of a larger
    /// one, such as `backbone.`.
    #[must_use]
    pub fn add_prefix(self, prefix: &str) -> Self {
        self.renamed(Rename::Add(prefix.to_owned()))
    }

    fn renamed(self, rename: Rename) -> Self {
        let Self { vb, names, without, problem, finite, adapter } = self;
        let problem = problem.or_else(|| rename.problem(names.as_deref()?));
        let names = names.map(|names| names.iter().map(|name| rename.apply(name)).collect());
        let (dtype, device) = (vb.dtype(), vb.device().clone());
        let vb = VarBuilder::from_backend(Box::new(Renamed { vb, rename }), dtype, device);
        Self { vb, names, without, problem, finite, adapter }
    }
}

impl<'a> Pretrained<'a> {
    /// Tensors whose names match start as they do without a pretrained network; `*` stands for any
    /// characters.
    ///
    /// A target by constructor that looks for a name by `contains_tensor` finds one that stands here in full,
    /// without a `*`, whether the network has it or not.
    #[must_use]
    pub fn without(mut self, pattern: &str) -> Self {
        self.without.push(pattern.to_owned());
        self
    }

    /// `new_from` then gives an error where a value is NaN or infinite, in the file or in the dtype of the
    /// hypernetwork: 10³⁰⁰ in a file of `f64` is infinite as `f32`. Without this, values are taken as they
    /// are.
    ///
    /// ```
    /// use candle_core::{DType, Device, Result, Tensor};
    /// use hypernn::nn::{Linear, VarBuilder, VarMap};
    /// use hypernn::{HyperTarget, Pretrained, hypernetwork};
    ///
    /// #[derive(HyperTarget)]
    /// struct Net {
    ///     #[hyper(linear(1, 1))]
    ///     fc: Linear,
    /// }
    ///
    /// hypernetwork! {
    ///     struct HyperNet for Net { embedding: table(2, 3), generator: linear, mode: static }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let tensors = [
    ///     ("fc.weight".to_owned(), Tensor::new(&[[1e300f64]], &Device::Cpu)?),
    ///     ("fc.bias".to_owned(), Tensor::new(&[0f64], &Device::Cpu)?),
    /// ];
    /// let file = VarBuilder::from_tensors(tensors.into(), DType::F64, &Device::Cpu);
    /// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    /// let refused = HyperNet::new_from(vb, Pretrained::from(file).check_finite());
    /// assert!(refused.is_err_and(|err| err.to_string().starts_with(
    ///     "`fc.weight` of the pretrained network in F32: 1 of 1 values are not finite, the first at index 0 is inf"
    /// )));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn check_finite(mut self) -> Self {
        self.finite = true;
        self
    }

    /// A builder of its tensors, for an ordinary network: `Net::new(pretrained.var_builder(dtype, &device)?)`. Tensors
    /// are read when they are asked for.
    ///
    /// # Errors
    /// A prefix that no name has, or tensors that are to start [afresh](Self::without): an ordinary network needs
    /// all of them.
    pub fn var_builder(&self, dtype: DType, device: &Device) -> Result<VarBuilder<'a>> {
        if let Some(problem) = &self.problem {
            bail!(declaration, "{problem}");
        }
        if let Some(pattern) = self.without.first() {
            bail!(
                declaration,
                "`{pattern}` is to start afresh, but a builder has what is in the file"
            );
        }
        Ok(self.vb.clone().set_dtype(dtype).set_device(device.clone()))
    }

    /// The values that the tensors of a target start with, in this dtype, on this device.
    pub(crate) fn initial_values(
        &self,
        layout: &Layout,
        dtype: DType,
        device: &Device,
    ) -> Result<InitialValues> {
        if let Some(problem) = &self.problem {
            bail!(declaration, "{problem}");
        }
        self.check_patterns(layout)?;
        self.check_shared(layout)?;
        let start = |name: &str, shape: &Shape, init| {
            if self.starts_afresh(name) {
                return Ok(None);
            }
            let tensor = self.tensor(layout, name, shape, init, dtype)?;
            if self.finite {
                let what = || format!("`{name}` of the pretrained network in {dtype:?}");
                ensure_finite(what, &tensor)?;
            }
            tensor.to_device(device).map(Some)
        };
        // Without one of its own, an adapter adds nothing at the start.
        let mut factors = self.factors(layout)?;
        let params = layout.params().iter().enumerate().map(|(index, at)| match at.kind {
            ParamKind::Down | ParamKind::Up if factors.contains_key(&index) => {
                let factor = factors.remove(&index).map(|factor| factor.to_dtype(dtype));
                factor.map(|factor| factor?.to_device(device)).transpose()
            }
            ParamKind::Down => Ok(None),
            ParamKind::Up => Tensor::zeros(at.shape.clone(), dtype, device).map(Some),
            _ => start(&at.name, &at.shape, at.init),
        });
        let kept = layout.kept().iter().map(|at| start(&at.name, &at.shape, at.init));
        let buffers = layout.buffers().iter().map(|at| start(&at.name, &at.shape, at.init));
        Ok(InitialValues {
            params: params.collect::<Result<_>>()?,
            kept: kept.collect::<Result<_>>()?,
            buffers: buffers.collect::<Result<_>>()?,
        })
    }

    /// A tensor that the target made for itself, as this network has it.
    pub(crate) fn value(&self, layout: &Layout, name: &str, made: &Tensor) -> Result<Tensor> {
        if self.starts_afresh(name) || !self.vb.contains_tensor(name) {
            return Ok(made.clone());
        }
        let tensor = self.tensor(layout, name, made.shape(), Init::Const(0.), made.dtype())?;
        tensor.to_device(made.device())
    }

    /// Tensors that are shared are alike in the pretrained network too.
    fn check_shared(&self, layout: &Layout) -> Result<()> {
        for (name, first) in layout.aliases() {
            let Some(param) = layout.params().iter().find(|param| param.name == first) else {
                continue;
            };
            if [name, first].iter().any(|name| self.starts_afresh(name)) {
                continue;
            }
            let tensor = |name| self.tensor(layout, name, &param.shape, param.init, DType::F64);
            let difference = (tensor(name)? - tensor(first)?)?.abs()?.sum_all()?;
            if difference.to_scalar::<f64>()? != 0. {
                bail!(
                    layout,
                    "`{name}` is shared with `{first}`, but the pretrained network has another tensor there: `without(\"{first}\")` starts them as a fresh one"
                );
            }
        }
        Ok(())
    }

    /// Whether a tensor starts as it does without a pretrained network.
    pub(crate) fn starts_afresh(&self, name: &str) -> bool {
        self.without.iter().any(|pattern| matches(pattern, name))
    }

    /// Whether a model of this network has a tensor of this name: one that the network has, or that
    /// `without` names in full.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.vb.contains_tensor(name) || self.without.iter().any(|pattern| pattern == name)
    }

    /// The answer of its builder, which is an error where it has no such tensor, also where a `VarMap`
    /// would make one.
    pub(crate) fn get(
        &self,
        shape: &Shape,
        name: &str,
        init: Init,
        dtype: DType,
    ) -> Result<Tensor> {
        self.ensure_has(name)?;
        self.vb.get_with_hints_dtype(shape.clone(), name, init, dtype)
    }

    /// The answer of its builder to a request without a shape.
    pub(crate) fn get_unchecked(&self, name: &str, dtype: DType) -> Result<Tensor> {
        self.ensure_has(name)?;
        self.vb.get_unchecked_dtype(name, dtype)
    }

    /// Candle's own error, which a constructor may look at.
    fn ensure_has(&self, name: &str) -> Result<()> {
        if self.vb.contains_tensor(name) {
            return Ok(());
        }
        let prefix = self.vb.prefix();
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        Err(Error::CannotFindTensor { path }.bt())
    }

    fn tensor(
        &self,
        layout: &Layout,
        name: &str,
        shape: &Shape,
        init: Init,
        dtype: DType,
    ) -> Result<Tensor> {
        if !self.vb.contains_tensor(name) {
            let wanted: Vec<_> = layout.names().collect();
            return Err(self.missing(&wanted, name, shape));
        }
        let tensor = self.vb.get_with_hints_dtype(shape.clone(), name, init, dtype);
        let tensor = tensor.map_err(|err| unlike(name, shape, &plain(&err)))?;
        // A `VarMap` gives its variables in the dtype that they have.
        tensor.detach().to_dtype(dtype)?.contiguous()
    }

    /// The error where the network lacks one of the tensors that are wanted.
    pub(crate) fn missing(&self, wanted: &[&str], name: &str, shape: &Shape) -> Error {
        let (dims, advice) = (shape.dims(), self.advice(wanted, name));
        layout(format!("the pretrained network has no `{name}`, expected shape {dims:?}: {advice}"))
    }

    /// What to do about a name that is not there. Where names differ by a prefix, all else would be
    /// another network.
    fn advice(&self, wanted: &[&str], name: &str) -> String {
        let is_missing = |name: &&str| !self.vb.contains_tensor(name);
        let missing: Vec<_> = wanted.iter().copied().filter(is_missing).collect();
        if let Some(prefix) = self.prefix_in_front(&missing) {
            return format!(
                "its names have `{prefix}` in front: `strip_prefix(\"{prefix}\")` takes them without"
            );
        }
        if let Some(prefix) = self.prefix_too_many(&missing) {
            return format!(
                "its names are without `{prefix}`: `add_prefix(\"{prefix}\")` puts that in front"
            );
        }
        let fresh = format!("`without(\"{name}\")` starts it as a fresh one");
        match &self.names {
            None => fresh,
            Some(names) if names.is_empty() => "it has no tensors at all".to_owned(),
            Some(names) if missing.len() == wanted.len() && wanted.len() > 1 => format!(
                "none of the target's tensors is in it; it has {}",
                files::list(&names[..names.len().min(6)], names.len())
            ),
            Some(names) => {
                let near = files::nearest(name, names.iter().map(String::as_str));
                format!("{fresh}; the nearest names are {near}")
            }
        }
    }

    /// The prefix of the network's names in front of those that are missing.
    fn prefix_in_front(&self, missing: &[&str]) -> Option<String> {
        if let Some(names) = &self.names {
            return files::prefix(missing, names);
        }
        let is_there = |prefix: &str| {
            missing.iter().any(|name| self.vb.contains_tensor(&format!("{prefix}{name}")))
        };
        USUAL_PREFIXES.iter().find(|prefix| is_there(prefix)).map(|prefix| (*prefix).to_owned())
    }

    /// What the target's names have in front of those that are there.
    fn prefix_too_many(&self, missing: &[&str]) -> Option<String> {
        let front = |name: &&str| {
            let mut ends = name.match_indices('.').map(|(at, _)| at + 1);
            ends.find(|&end| self.vb.contains_tensor(&name[end..]))
                .map(|end| name[..end].to_owned())
        };
        let mut fronts: Vec<_> = missing.iter().filter_map(front).collect();
        fronts.sort_unstable();
        let counted = fronts.chunk_by(|a, b| a == b).map(|same| (same.len(), &same[0]));
        counted.max().map(|(_, prefix)| prefix.clone())
    }

    fn check_patterns(&self, layout: &Layout) -> Result<()> {
        for pattern in &self.without {
            if !layout.names().any(|name| matches(pattern, name)) {
                bail!(
                    declaration,
                    "without \"{pattern}\": no tensor of the target has a name of this pattern; the nearest names are {}",
                    files::nearest(pattern, layout.names())
                );
            }
        }
        Ok(())
    }
}

/// Prefixes that are tried where a builder does not say which names it has.
const USUAL_PREFIXES: [&str; 12] = [
    "module.",
    "model.",
    "net.",
    "network.",
    "_orig_mod.",
    "state_dict.",
    "backbone.",
    "encoder.",
    "transformer.",
    "bert.",
    "roberta.",
    "distilbert.",
];

/// Another name for each tensor.
enum Rename {
    Strip(String),
    Add(String),
}

impl Rename {
    /// The new name of the tensor of this name.
    fn apply(&self, name: &str) -> String {
        match self {
            Self::Strip(prefix) => name.strip_prefix(prefix.as_str()).unwrap_or(name).to_owned(),
            Self::Add(prefix) => format!("{prefix}{name}"),
        }
    }

    fn problem(&self, names: &[String]) -> Option<String> {
        let Self::Strip(prefix) = self else { return None };
        if names.iter().any(|name| name.starts_with(prefix.as_str())) {
            return None;
        }
        let near = files::nearest(&format!("{prefix}*"), names.iter().map(String::as_str));
        Some(format!(
            "strip_prefix \"{prefix}\": no name of the pretrained network begins so; the nearest names are {near}"
        ))
    }
}

/// A builder that has its tensors by other names.
struct Renamed<'a> {
    vb: VarBuilder<'a>,
    rename: Rename,
}

impl Renamed<'_> {
    /// The name that a tensor has in the builder.
    fn original(&self, name: &str) -> String {
        match &self.rename {
            Rename::Strip(prefix) => {
                let whole = format!("{prefix}{name}");
                if self.vb.contains_tensor(&whole) { whole } else { name.to_owned() }
            }
            Rename::Add(prefix) => name.strip_prefix(prefix.as_str()).unwrap_or(name).to_owned(),
        }
    }
}

impl SimpleBackend for Renamed<'_> {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        _: &Device,
    ) -> Result<Tensor> {
        self.vb.get_with_hints_dtype(shape, &self.original(name), init, dtype)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Device) -> Result<Tensor> {
        self.vb.get_unchecked_dtype(&self.original(name), dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.vb.contains_tensor(&self.original(name))
    }
}

/// The error where the network has another tensor of this name.
pub(crate) fn unlike(name: &str, shape: &Shape, reason: &str) -> Error {
    let dims = shape.dims();
    layout(format!("`{name}` of the pretrained network, expected shape {dims:?}: {reason}"))
}

/// The values that the tensors of a target start with; none where they start as in a fresh network.
#[derive(Clone, Default)]
pub(crate) struct InitialValues {
    params: Vec<Option<Tensor>>,
    kept: Vec<Option<Tensor>>,
    buffers: Vec<Option<Tensor>>,
}

fn at(values: &[Option<Tensor>], index: usize) -> Option<&Tensor> {
    values.get(index)?.as_ref()
}

impl InitialValues {
    pub(crate) fn param(&self, index: usize) -> Option<&Tensor> {
        at(&self.params, index)
    }

    pub(crate) fn kept(&self, index: usize) -> Option<&Tensor> {
        at(&self.kept, index)
    }

    pub(crate) fn buffer(&self, index: usize) -> Option<&Tensor> {
        at(&self.buffers, index)
    }
}
