//! A pretrained network: where a hypernetwork's target starts.

use std::path::Path;

use candle_core::{DType, Device, Error, Result, Shape, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use crate::target::layout::Layout;
use crate::target::role::matches;
use crate::target::source::ParamKind;

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
/// A target [by constructor](crate::target::constructor) is the model that its constructor builds from this
/// network: what it looks for is there, or not, as in the network.
///
/// Any `VarBuilder` is one: safetensors, PyTorch's files, variables in memory, each with a prefix by
/// `pp`. Tensors that it has beside those of the target are left alone.
///
/// ```
/// use candle_core::{DType, Device, Module, Result, Tensor};
/// use hypernn::nn::{Linear, VarBuilder, VarMap};
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
///         self.head.forward(&self.trunk.forward(xs)?.relu()?)
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
    /// Patterns of tensors that start as in a fresh network.
    without: Vec<String>,
}

impl std::fmt::Debug for Pretrained<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pretrained").field("without", &self.without).finish_non_exhaustive()
    }
}

impl<'a> From<VarBuilder<'a>> for Pretrained<'a> {
    fn from(vb: VarBuilder<'a>) -> Self {
        Self { vb, without: Vec::new() }
    }
}

impl Pretrained<'static> {
    /// The tensors of a safetensors file, or of a `state_dict` that PyTorch's `torch.save` wrote, by
    /// name.
    ///
    /// # Errors
    /// There is no such file, or it is neither.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let tensors = crate::files::tensors(path.as_ref())?;
        Ok(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu).into())
    }
}

impl Pretrained<'_> {
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

    /// Where the tensors of a target start, in this dtype, on this device.
    pub(crate) fn starts(&self, layout: &Layout, dtype: DType, device: &Device) -> Result<Starts> {
        self.check_patterns(layout)?;
        self.check_shared(layout)?;
        let start = |name: &str, shape: &Shape, init| {
            if self.starts_afresh(name) {
                return Ok(None);
            }
            self.tensor(name, shape, init, dtype)?.to_device(device).map(Some)
        };
        // An adapter is no part of the pretrained network: it adds nothing at the start.
        let params = layout.params().iter().map(|at| match at.kind {
            ParamKind::Down => Ok(None),
            ParamKind::Up => Tensor::zeros(at.shape.clone(), dtype, device).map(Some),
            _ => start(&at.name, &at.shape, at.init),
        });
        let kept = layout.kept().iter().map(|at| start(&at.name, &at.shape, at.init));
        let buffers = layout.buffers().iter().map(|at| start(&at.name, &at.shape, at.init));
        Ok(Starts {
            params: params.collect::<Result<_>>()?,
            kept: kept.collect::<Result<_>>()?,
            buffers: buffers.collect::<Result<_>>()?,
        })
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
            let tensor = |name| self.tensor(name, &param.shape, param.init, DType::F64);
            let difference = (tensor(name)? - tensor(first)?)?.abs()?.sum_all()?;
            if difference.to_scalar::<f64>()? != 0. {
                bail!(
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
        (init, dtype): (Init, DType),
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

    fn tensor(&self, name: &str, shape: &Shape, init: Init, dtype: DType) -> Result<Tensor> {
        if !self.vb.contains_tensor(name) {
            return Err(missing(name, shape));
        }
        let tensor = self.vb.get_with_hints_dtype(shape.clone(), name, init, dtype);
        let tensor = tensor.map_err(|err| unlike(name, shape, &err.to_string()))?;
        // A `VarMap` gives its variables in the dtype that they have.
        tensor.detach().to_dtype(dtype)
    }

    fn check_patterns(&self, layout: &Layout) -> Result<()> {
        for pattern in &self.without {
            if !layout.names().any(|name| matches(pattern, name)) {
                bail!("without \"{pattern}\": no tensor of the target has a name of this pattern");
            }
        }
        Ok(())
    }
}

/// The network lacks a tensor.
pub(crate) fn missing(name: &str, shape: &Shape) -> Error {
    let dims = shape.dims();
    Error::msg(format!(
        "the pretrained network has no `{name}`, expected shape {dims:?}: `without(\"{name}\")` starts it as a fresh one"
    ))
}

/// The network has another tensor of this name.
pub(crate) fn unlike(name: &str, shape: &Shape, reason: &str) -> Error {
    let dims = shape.dims();
    Error::msg(format!("`{name}` of the pretrained network, expected shape {dims:?}: {reason}"))
}

/// Where the tensors of a target start; none where as in a fresh network.
#[derive(Clone, Default)]
pub(crate) struct Starts {
    params: Vec<Option<Tensor>>,
    kept: Vec<Option<Tensor>>,
    buffers: Vec<Option<Tensor>>,
}

fn at(starts: &[Option<Tensor>], index: usize) -> Option<&Tensor> {
    starts.get(index)?.as_ref()
}

impl Starts {
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
