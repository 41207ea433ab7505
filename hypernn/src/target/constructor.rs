//! Targets without annotation: any model that is built from a [`VarBuilder`].
//!
//! The constructor is run once over a builder that records what is asked for, in the order of
//! asking; this is the target's layout. It then runs over a builder that serves generated tensors.
//! Names are the model's own paths. What is asked for twice, as a tied weight is, counts once and is
//! the same tensor. The init that the model gives with its request is the one that `init: exact`
//! follows; `VarBuilder::get` gives the constant 0, so such a tensor starts at 0, as in candle.
//!
//! Running statistics are buffers: what is named as `candle_nn::batch_norm` names them,
//! `running_mean` and `running_var`.
//!
//! candle's layers compute with one set of weights at a time, so that several sets take their turns.
//!
//! ```
//! use candle_core::{DType, Device, Module, Result, Tensor};
//! use hypernn::nn::{VarBuilder, VarMap};
//! use hypernn::hypernetwork;
//!
//! /// A model that knows nothing of hypernn.
//! struct Net {
//!     hidden: candle_nn::Linear,
//!     out: candle_nn::Linear,
//! }
//!
//! impl Net {
//!     fn new(width: usize, vb: VarBuilder<'_>) -> Result<Self> {
//!         let hidden = candle_nn::linear(4, width, vb.pp("hidden"))?;
//!         Ok(Self { hidden, out: candle_nn::linear(width, 2, vb.pp("out"))? })
//!     }
//! }
//!
//! impl Module for Net {
//!     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
//!         self.out.forward(&self.hidden.forward(xs)?.tanh()?)
//!     }
//! }
//!
//! hypernetwork! {
//!     struct HyperNet for Net {
//!         target: by constructor,
//!         embedding: table(10, 3),
//!         generator: linear,
//!         mode: static,
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
//! let hyper = HyperNet::new(vb, |vb| Net::new(8, vb))?;
//! let names: Vec<_> = hyper.as_network().layout().params().iter().map(|p| p.name.as_str()).collect();
//! assert_eq!(names, ["hidden.weight", "hidden.bias", "out.weight", "out.bias"]);
//! let ys = hyper.forward(&Tensor::ones((5, 4), DType::F32, &Device::Cpu)?)?;
//! assert_eq!(ys.dims(), [5, 2]);
//! # Ok(())
//! # }
//! ```
//!
//! Several models may be one target, whose parameters lie side by side; and a type that
//! `hypernetwork!` emits, which is built from a [`VarBuilder`] as well, may be the target of another:
//!
//! ```
//! use candle_core::{DType, Device, Module, Result, Tensor};
//! use hypernn::nn::{VarBuilder, VarMap};
//! use hypernn::hypernetwork;
//!
//! hypernetwork! {
//!     struct Both for (candle_nn::Linear, candle_nn::Conv2d) {
//!         target: by constructor,
//!         embedding: table(13, 3),
//!         generator: linear,
//!         mode: static,
//!     }
//! }
//!
//! hypernetwork! {
//!     struct HyperLinear for candle_nn::Linear {
//!         target: by constructor, embedding: table(5, 2), generator: linear, mode: static,
//!     }
//! }
//!
//! hypernetwork! {
//!     struct Meta for HyperLinear {
//!         target: by constructor, embedding: table(4, 2), generator: linear, mode: static,
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
//! let both = Both::new(vb, |vb| {
//!     let linear = candle_nn::linear(4, 2, vb.pp("linear"))?;
//!     Ok((linear, candle_nn::conv2d(1, 8, 3, Default::default(), vb.pp("conv"))?))
//! })?;
//! assert_eq!(both.as_network().num_target_params(), 4 * 2 + 2 + 8 * 9 + 8);
//! let (linear, conv) = both.target()?;
//! let ys = linear.forward(&Tensor::ones((5, 4), DType::F32, &Device::Cpu)?)?;
//! let zs = conv.forward(&Tensor::ones((5, 1, 6, 6), DType::F32, &Device::Cpu)?)?;
//! assert_eq!((ys.dims(), zs.dims()), (&[5, 2][..], &[5, 8, 4, 4][..]));
//!
//! let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
//! let meta = Meta::new(vb, |vb: VarBuilder<'_>| HyperLinear::new(vb, |vb| candle_nn::linear(4, 2, vb)))?;
//! // What it generates are the variables of a hypernetwork: a table, and a generator.
//! let names: Vec<_> = meta.as_network().layout().params().iter().map(|p| p.name.as_str()).collect();
//! assert_eq!(names, ["embedding.weight", "generator.weight", "generator.bias"]);
//! let ys = meta.forward(&Tensor::ones((5, 4), DType::F32, &Device::Cpu)?)?;
//! assert_eq!(ys.dims(), [5, 2]);
//! # Ok(())
//! # }
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use super::source::{ParamKind, ParamSource, ParamSpec};
use super::value::is_stored_name;

/// What a constructor asks its builder for, in order, each name once.
pub(crate) struct Requests(Vec<Request>);

#[derive(Clone)]
struct Request {
    name: String,
    shape: Shape,
    init: Init,
}

impl Requests {
    /// Runs the constructor over a builder that keeps the record.
    pub(crate) fn record<T>(constructor: impl FnOnce(VarBuilder<'_>) -> Result<T>) -> Result<Self> {
        let recorder = Recorder::default();
        let backend = Box::new(recorder.clone());
        constructor(VarBuilder::from_backend(backend, DType::F32, Device::Cpu))?;
        Ok(Self(std::mem::take(&mut *recorder.requests())))
    }

    /// Runs the constructor over what the source has for each request.
    pub(crate) fn build<T>(
        &self,
        source: &mut dyn ParamSource,
        constructor: impl FnOnce(VarBuilder<'_>) -> Result<T>,
    ) -> Result<T> {
        let tensors = self.serve(source)?;
        let (dtype, device) = match self.0.first().and_then(|first| tensors.get(&first.name)) {
            Some(like) => (like.dtype(), like.device().clone()),
            None => (DType::F32, Device::Cpu),
        };
        constructor(VarBuilder::from_backend(Box::new(Recorded(tensors)), dtype, device))
    }

    /// Asks the source for everything, in order.
    pub(crate) fn serve(&self, source: &mut dyn ParamSource) -> Result<HashMap<String, Tensor>> {
        source.takes_one_set();
        self.0.iter().map(|request| Ok((request.name.clone(), request.ask(source)?))).collect()
    }
}

impl Request {
    fn ask(&self, source: &mut dyn ParamSource) -> Result<Tensor> {
        let (name, dims, init) = (self.name.as_str(), self.shape.dims(), self.init);
        // A request does not say what the tensor is in its layer.
        let spec = ParamSpec { name, dims, kind: ParamKind::Tensor, init };
        if self.is_buffer() { source.buffer(&spec) } else { source.param(&spec) }
    }

    /// Running statistics, by the names that `candle_nn::batch_norm` asks for.
    fn is_buffer(&self) -> bool {
        matches!(self.name.rsplit('.').next(), Some("running_mean" | "running_var"))
    }
}

/// Keeps the record and answers with zeros that take no memory.
///
/// It has no tensor before it is asked for one, as an empty `VarMap`: a model that looks for names
/// takes the ways it takes there.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Request>>>);

impl Recorder {
    fn requests(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimpleBackend for Recorder {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        if is_stored_name(name) {
            bail!("`{name}` is made by the model itself");
        }
        if !dtype.is_float() {
            bail!("the constructor asks for `{name}` as {dtype:?}, expected a floating dtype");
        }
        let mut requests = self.requests();
        match requests.iter().find(|request| request.name == name) {
            None => requests.push(Request { name: name.to_owned(), shape: shape.clone(), init }),
            Some(earlier) if earlier.shape == shape => {}
            Some(earlier) => bail!(
                "the constructor asks for `{name}` with shape {:?} and with shape {:?}",
                earlier.shape.dims(),
                shape.dims()
            ),
        }
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        without_shape(name)
    }

    fn contains_tensor(&self, _: &str) -> bool {
        false
    }
}

fn without_shape(name: &str) -> Result<Tensor> {
    bail!("the constructor asks for `{name}` without a shape, so its size is not known")
}

/// Answers with the tensors of the record's names, and has those alone: a model that asks only for what
/// is there takes the same ways as before.
struct Recorded(HashMap<String, Tensor>);

impl SimpleBackend for Recorded {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        match self.0.get(name) {
            Some(tensor) if *tensor.shape() == shape => tensor.to_device(device)?.to_dtype(dtype),
            _ => bail!(
                "the constructor asks for `{name}` of shape {:?}, which it did not when its layout was taken",
                shape.dims()
            ),
        }
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        without_shape(name)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
