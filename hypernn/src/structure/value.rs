//! Fields without parameters, `#[hyper(value = EXPR)]`: made once for each network.
//!
//! A target is built anew for every forward, and its layout was taken from a build before. What such
//! a field holds is the same in all of them:
//!
//! - tensors that are no parameters, such as random features, a mask or a table that is computed once,
//!   and what holds such tensors ([`FixedTensors`]), are made once for each network, and no optimiser
//!   moves them. They are in the network's checkpoint, as `buffers.PATH.hyper_value`, and in what `export`
//!   writes, as `PATH.hyper_value`, so that a network that is read again has the same. An ordinary
//!   network, `Net::new(vb)`, takes them from its builder where this has them, and else makes them and
//!   leaves them there;
//! - what can be cloned is made once for each network, and cloned for each build. A file does not hold
//!   it: what is drawn at random is to be a tensor;
//! - anything else, and a field whose type mentions a type parameter or a lifetime of its target, is made
//!   anew in each build. The first `forward` outside of training builds the target twice, and is an error
//!   where such a field is another each time, as one that draws at random.
//!
//! Values have the dtype in which they are made, whatever that of the target is: one that is to go with a target of
//! several dtypes is cast where it is used, `self.features.to_dtype(xs.dtype())?`. An operation of two dtypes is
//! an error that names the field.
//!
//! ```
//! use candle_core::{DType, Device, Module, Result, Tensor};
//! use hypernn::nn::{Linear, VarBuilder, VarMap};
//! use hypernn::{HyperTarget, hypernetwork};
//!
//! /// Random Fourier features, drawn once, and a layer over them.
//! #[derive(HyperTarget)]
//! struct Net {
//!     #[hyper(value = Tensor::randn(0f32, 1., (2, 16), &Device::Cpu).unwrap())]
//!     features: Tensor,
//!     #[hyper(linear(16, 1))]
//!     out: Linear,
//! }
//!
//! impl Module for Net {
//!     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
//!         self.out.forward(&xs.matmul(&self.features)?.cos()?)
//!     }
//! }
//!
//! hypernetwork! {
//!     struct HyperNet for Net { embedding: table(4, 3), generator: linear, mode: static }
//! }
//!
//! # fn main() -> Result<()> {
//! let build = || HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu));
//! let (hyper, other) = (build()?, build()?);
//! let xs = Tensor::ones((3, 2), DType::F32, &Device::Cpu)?;
//! let ys = hyper.forward(&xs)?.to_vec2::<f32>()?;
//! assert_eq!(hyper.forward(&xs)?.to_vec2::<f32>()?, ys);
//! // Another network has other features, until it reads a checkpoint.
//! assert_ne!(other.forward(&xs)?.to_vec2::<f32>()?, ys);
//! let path = std::env::temp_dir().join("hypernn_features.safetensors");
//! hyper.save(&path)?;
//! other.load(&path)?;
//! assert_eq!(other.forward(&xs)?.to_vec2::<f32>()?, ys);
//! # Ok(())
//! # }
//! ```

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use candle_core::{Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};

/// A value that was made once.
pub type Made = Arc<dyn Any + Send + Sync>;

/// What the fields without parameters of a target hold, for all that is built of it.
#[derive(Clone, Default)]
pub(crate) struct Values {
    /// Each value, in the order in which the target's build asks for them.
    pub(crate) made: Vec<Made>,
    /// The names of all tensors among these that are stored, in the order of asking.
    pub(crate) names: Vec<String>,
    /// The tensors of these names, as they were made.
    pub(crate) tensors: Vec<Tensor>,
    /// The first field that is made anew in each build, if there is one.
    pub(crate) anew: Option<String>,
}

impl Values {
    pub(crate) fn named(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.names.iter().map(String::as_str).zip(&self.tensors)
    }
}

/// The last part of a stored tensor's name: that of a field alone may be the name of something else in a
/// file.
const SUFFIX: &str = "hyper_value";

/// The name of a stored tensor below its field's path.
pub(crate) fn stored_name(name: &str) -> String {
    join(name, SUFFIX)
}

/// The path to the field, of a stored tensor's name.
pub(crate) fn field_of_stored(name: &str) -> &str {
    name.strip_suffix(SUFFIX).and_then(|path| path.strip_suffix('.')).unwrap_or(name)
}

/// Whether a tensor of this name is such a one.
pub(crate) fn is_stored_name(name: &str) -> bool {
    name.rsplit('.').next() == Some(SUFFIX)
}

/// A tensor that was made, as the builder has it below `name`; where the builder keeps variables, it then
/// has it. No gradient flows into it.
///
/// # Errors
/// The builder has it with another shape.
pub(crate) fn stored(vb: &VarBuilder<'_>, name: &str, made: &Tensor) -> Result<Tensor> {
    let known = vb.contains_tensor(name);
    let vb = vb.clone().set_device(made.device().clone());
    match vb.get_with_hints_dtype(made.shape(), name, Init::Const(0.), made.dtype()) {
        Ok(found) if known => Ok(found.detach()),
        Err(err) if known => Err(err),
        Ok(new) if new.is_variable() => {
            Var::from_tensor(&new)?.set(&made.to_device(new.device())?)?;
            Ok(new.detach())
        }
        // It keeps none: a file of before, or what serves a constructor.
        Ok(_) | Err(_) => Ok(made.detach()),
    }
}

/// A value that holds tensors which are no parameters: a field `#[hyper(value = EXPR)]` of such a type
/// has them in checkpoints.
///
/// Implement it for a type of your own that holds tables:
///
/// ```
/// use candle_core::{DType, Device, Module, Result, Tensor};
/// use hypernn::HyperTarget;
/// use hypernn::nn::{Linear, VarBuilder, VarMap};
/// use hypernn::target::value::FixedTensors;
///
/// struct Rotation {
///     cos: Tensor,
///     sin: Tensor,
/// }
///
/// impl FixedTensors for Rotation {
///     fn with_tensors(
///         &self,
///         with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>,
///     ) -> Result<Self> {
///         Ok(Self { cos: with("cos", &self.cos)?, sin: with("sin", &self.sin)? })
///     }
/// }
///
/// #[derive(HyperTarget)]
/// struct Net {
///     #[hyper(value = rotation(8).unwrap())]
///     rotation: Rotation,
///     #[hyper(linear(8, 2))]
///     out: Linear,
/// }
///
/// fn rotation(width: usize) -> Result<Rotation> {
///     let angles = Tensor::arange(0f32, width as f32, &Device::Cpu)?;
///     Ok(Rotation { cos: angles.cos()?, sin: angles.sin()? })
/// }
///
/// # fn main() -> Result<()> {
/// let vars = VarMap::new();
/// Net::new(VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
/// assert!(vars.data().lock().unwrap().contains_key("rotation.cos.hyper_value"));
/// # Ok(())
/// # }
/// ```
pub trait FixedTensors: Sized {
    /// This value with what `with` gives in place of each tensor. `with` is called with the tensor's name below
    /// the value's own path, which is empty where there is one tensor alone.
    ///
    /// # Errors
    /// Those of `with`.
    fn with_tensors(&self, with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self>;
}

/// `first.second`, where neither is empty.
fn join(first: &str, second: &str) -> String {
    match (first, second) {
        ("", name) | (name, "") => name.to_owned(),
        _ => format!("{first}.{second}"),
    }
}

/// A part of a value, below its name.
fn part<T: FixedTensors>(
    value: &T,
    name: &str,
    with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>,
) -> Result<T> {
    value.with_tensors(&mut |below, tensor| with(&join(name, below), tensor))
}

impl FixedTensors for Tensor {
    fn with_tensors(&self, with: &mut dyn FnMut(&str, &Self) -> Result<Self>) -> Result<Self> {
        with("", self)
    }
}

impl<T: FixedTensors> FixedTensors for Option<T> {
    fn with_tensors(&self, with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        self.as_ref().map(|value| value.with_tensors(with)).transpose()
    }
}

impl<T: FixedTensors> FixedTensors for Vec<T> {
    fn with_tensors(&self, with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        self.iter().enumerate().map(|(i, value)| part(value, &i.to_string(), with)).collect()
    }
}

impl<T: FixedTensors, const N: usize> FixedTensors for [T; N] {
    fn with_tensors(&self, with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let values = self.iter().enumerate().map(|(i, value)| part(value, &i.to_string(), with));
        super::layer::into_array(values.collect::<Result<_>>()?)
    }
}

impl<T: FixedTensors> FixedTensors for Box<T> {
    fn with_tensors(&self, with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        T::with_tensors(self, with).map(Self::new)
    }
}

impl<T: FixedTensors> FixedTensors for Arc<T> {
    fn with_tensors(&self, with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        T::with_tensors(self, with).map(Self::new)
    }
}

impl<A: FixedTensors, B: FixedTensors> FixedTensors for (A, B) {
    fn with_tensors(&self, with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok((part(&self.0, "0", with)?, part(&self.1, "1", with)?))
    }
}

impl<A: FixedTensors, B: FixedTensors, C: FixedTensors> FixedTensors for (A, B, C) {
    fn with_tensors(&self, with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok((part(&self.0, "0", with)?, part(&self.1, "1", with)?, part(&self.2, "2", with)?))
    }
}

/// Each value below its key, in the order of the keys.
impl<K: Clone + Ord + ToString, T: FixedTensors> FixedTensors for BTreeMap<K, T> {
    fn with_tensors(&self, with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let values = self.iter();
        values.map(|(key, value)| Ok((key.clone(), part(value, &key.to_string(), with)?))).collect()
    }
}

/// Each value below its key, in the order of the keys.
impl<K, T, S> FixedTensors for HashMap<K, T, S>
where
    K: Clone + Ord + Hash + ToString,
    T: FixedTensors,
    S: BuildHasher + Default,
{
    fn with_tensors(&self, with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut values: Vec<_> = self.iter().collect();
        values.sort_by_key(|(key, _)| *key);
        let values = values.into_iter();
        values.map(|(key, value)| Ok((key.clone(), part(value, &key.to_string(), with)?))).collect()
    }
}

/// A layer that is no part of what is generated: a fixed projection, say.
macro_rules! fixed_layers {
    ($($Linear:ty, $Embedding:ty;)+) => {$(
        impl FixedTensors for $Linear {
            fn with_tensors(
                &self,
                with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>,
            ) -> Result<Self> {
                let bias = self.bias().map(|bias| with("bias", bias)).transpose()?;
                Ok(Self::new(with("weight", self.weight())?, bias))
            }
        }

        impl FixedTensors for $Embedding {
            fn with_tensors(
                &self,
                with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>,
            ) -> Result<Self> {
                Ok(Self::new(with("weight", self.embeddings())?, self.hidden_size()))
            }
        }
    )+};
}

pub(crate) use fixed_layers;

fixed_layers! {
    candle_nn::Linear, candle_nn::Embedding;
}

/// A fixed filter.
macro_rules! fixed_convolutions {
    ($($Layer:ty),+ $(,)?) => {$(
        impl FixedTensors for $Layer {
            fn with_tensors(
                &self,
                with: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>,
            ) -> Result<Self> {
                let bias = self.bias().map(|bias| with("bias", bias)).transpose()?;
                Ok(Self::new(with("weight", self.weight())?, bias, *self.config()))
            }
        }
    )+};
}

pub(crate) use fixed_convolutions;

fixed_convolutions! {
    candle_nn::Conv1d, candle_nn::Conv2d, candle_nn::ConvTranspose1d, candle_nn::ConvTranspose2d,
}
