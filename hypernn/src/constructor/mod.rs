//! Targets without annotation: any model that is built from a [`VarBuilder`].
//!
//! The constructor is run once over a builder that records what is asked for, in the order of
//! asking; this is the target's layout. It then runs over a builder that serves generated tensors, anew for
//! each forward. It is an `Fn(VarBuilder<'static>) -> Result<T>`: a function, or a closure.
//! Names are the model's own paths. What is asked for twice, as a tied weight is, counts once and is
//! the same tensor. The init that the model gives with its request is the one that `init: exact`
//! follows; `VarBuilder::get` gives the constant 0, so such a tensor starts at 0, as in candle.
//!
//! Running statistics are buffers: what is named as `candle_nn::batch_norm` names them,
//! `running_mean` and `running_var`.
//!
//! candle's layers compute with one set of weights at a time, so that several sets take their turns.
//!
//! # Over a pretrained network
//!
//! For `new_from` the builder answers as the checkpoint's own does, errors included: `contains_tensor` says
//! what is there, `get` of a name that is missing or has another shape is candle's error, which a model may
//! put up with, and `get_unchecked` gives what is there. So the target is the model that the constructor builds
//! from this checkpoint: a head of its own or a tied one, `gamma` or `weight`, an optional tensor or none.
//! Integers of the checkpoint are parts of the model as they are. What
//! [`without`](crate::Pretrained::without) leaves out starts afresh; `contains_tensor` finds it where the
//! checkpoint has it, or where `without` names it in full, without a `*`.
//!
//! For `new` the builder is as one of an empty `VarMap`: `contains_tensor` finds what was asked for before, and
//! nothing else. [`Layout::absent`](crate::Layout::absent) has the names that were looked for in
//! vain, and `Debug` of the hypernetwork shows the first of them.
//!
//! # What a constructor does each time
//!
//! Whatever the constructor computes, it computes in every `forward` and `unpack`, for each set of weights. The
//! tables of rotary embeddings of a Qwen2 with 32,768 positions take 61 ms. Where several forwards have the
//! same weights, keep the model, `hyper.target()?` or `params.unpack()?`, and call it.
//!
//! What it draws at random by itself, as by `Tensor::randn`, would be other values in each model: candle has no
//! seed for them on the CPU. The first `forward` outside of training builds the model twice, and is an error
//! where that shows in the outputs; models that are taken by `target` or `unpack` are not looked at. Draw
//! such values once, and let the constructor take them:
//!
//! ```
//! use candle_core::{DType, Device, Module, Result, Tensor};
//! use hypernn::nn::{VarBuilder, VarMap};
//! use hypernn::hypernetwork;
//!
//! /// Random features, and a linear layer over them.
//! struct Net(Tensor, candle_nn::Linear);
//!
//! impl Net {
//!     fn new(features: Tensor, vb: VarBuilder<'_>) -> Result<Self> {
//!         Ok(Self(features, candle_nn::linear(16, 2, vb)?))
//!     }
//! }
//!
//! impl Module for Net {
//!     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
//!         self.1.forward(&xs.matmul(&self.0)?.cos()?)
//!     }
//! }
//!
//! hypernetwork! {
//!     struct HyperNet for Net {
//!         target: constructor, embedding: table(17, 2), generator: linear, mode: static,
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
//! let features = Tensor::randn(0f32, 1., (4, 16), &Device::Cpu)?;
//! let hyper = HyperNet::new(vb, move |vb| Net::new(features.clone(), vb))?;
//! let xs = Tensor::ones((5, 4), DType::F32, &Device::Cpu)?;
//! assert_eq!(hyper.forward(&xs)?.to_vec2::<f32>()?, hyper.forward(&xs)?.to_vec2::<f32>()?);
//! # Ok(())
//! # }
//! ```
//!
//! Some models do so where they miss a name: candle's CLIP draws its class embedding where the checkpoint has none.
//! `Pretrained::without("vision_model.embeddings.class_embedding")` makes it a tensor of the target.
//!
//! # What adapters cost
//!
//! A layer of candle's takes a frozen weight and its low-rank [adapter](crate::structure::adapter) as one weight, of the size
//! of the frozen one, and has one for each set; and candle computes a gradient of each matrix that it multiplies
//! with, before the factors get theirs. Layers of [`nn`](crate::nn) do neither: they multiply with the frozen weight
//! once for all sets, and with the factors. Forward and backward of four layers of 2500 × 2500 with adapters
//! of rank 4 over 16 rows, in seconds on two busy cores, and the memory beside the frozen 100 MB:
//!
//! | | 1 set | 4 sets |
//! |---|---|---|
//! | target by constructor | 2.4 s, 230 MB | 9.9 s, 530 MB |
//! | target of `hypernn::nn::Linear` | 0.5 s, 5 MB | 0.7 s, 9 MB |
//! | the ordinary model, training its weights | 1.4 s, 180 MB | |
//!
//! `cargo bench -p hypernn-benches --bench scaling -- adapters` measures the first two of your machine, for one set, two
//! and four.
//!
//! A weight that is frozen without an adapter costs its gradient all the same, which candle computes and nothing
//! asks for.
//!
//! # Examples
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
//!         target: constructor,
//!         embedding: table(10, 3),
//!         generator: linear,
//!         mode: static,
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
//! let hyper = HyperNet::new(vb, |vb| Net::new(8, vb))?;
//! let names: Vec<_> = hyper.layout().params().iter().map(|p| p.name.as_str()).collect();
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
//!         target: constructor,
//!         embedding: table(13, 3),
//!         generator: linear,
//!         mode: static,
//!     }
//! }
//!
//! hypernetwork! {
//!     struct HyperLinear for candle_nn::Linear {
//!         target: constructor, embedding: table(5, 2), generator: linear, mode: static,
//!     }
//! }
//!
//! hypernetwork! {
//!     struct Meta for HyperLinear {
//!         target: constructor, embedding: table(4, 2), generator: linear, mode: static,
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
//! let both = Both::new(vb, |vb| {
//!     let linear = candle_nn::linear(4, 2, vb.pp("linear"))?;
//!     Ok((linear, candle_nn::conv2d(1, 8, 3, Default::default(), vb.pp("conv"))?))
//! })?;
//! assert_eq!(both.num_target_params(), 4 * 2 + 2 + 8 * 9 + 8);
//! let (linear, conv) = both.target()?;
//! let ys = linear.forward(&Tensor::ones((5, 4), DType::F32, &Device::Cpu)?)?;
//! let zs = conv.forward(&Tensor::ones((5, 1, 6, 6), DType::F32, &Device::Cpu)?)?;
//! assert_eq!((ys.dims(), zs.dims()), (&[5, 2][..], &[5, 8, 4, 4][..]));
//!
//! let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
//! let meta = Meta::new(vb, |vb: VarBuilder<'_>| HyperLinear::new(vb, |vb| candle_nn::linear(4, 2, vb)))?;
//! // What it generates are the variables of a hypernetwork: a table, and a generator.
//! let names: Vec<_> = meta.layout().params().iter().map(|p| p.name.as_str()).collect();
//! assert_eq!(names, ["embedding.weight", "generator.weight", "generator.bias"]);
//! let ys = meta.forward(&Tensor::ones((5, 4), DType::F32, &Device::Cpu)?)?;
//! assert_eq!(ys.dims(), [5, 2]);
//! # Ok(())
//! # }
//! ```

mod lent_network;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::pretrained::{Pretrained, unlike};
use crate::structure::source::{BufferDtype, ParamKind, ParamSource, ParamSpec};
use crate::structure::value::is_stored_name;
use lent_network::{LentNetwork, lend};

/// What a constructor asks its builder for, in order, each name once, and what it was told.
pub(crate) struct Requests {
    asked: Vec<Request>,
    answers: Arc<Answers>,
}

/// What a constructor was told, beside the tensors of its layout.
#[derive(Default)]
struct Answers {
    /// What is served as it is: integers of a pretrained network, and tensors without values.
    constants: HashMap<String, Tensor>,
    /// Whether a name that was looked for was there, before the constructor asked for it.
    looked_for: BTreeMap<String, bool>,
    refusals: Vec<Refusal>,
}

#[derive(Clone)]
struct Request {
    name: String,
    shape: Shape,
    init: Init,
    /// The dtype, where it is another than the builder's.
    dtype: Option<DType>,
}

impl Requests {
    /// Runs the constructor over a builder of this dtype and device that keeps the record, and has what
    /// the pretrained network has, where there is one.
    pub(crate) fn record<T>(
        constructor: impl FnOnce(VarBuilder<'static>) -> Result<T>,
        pretrained: Option<&Pretrained<'_>>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        lend(pretrained, |network| {
            let recorder = RecordingBackend { log: Arc::default(), network, dtype };
            let backend = Box::new(recorder.clone());
            let built = constructor(VarBuilder::from_backend(backend, dtype, device.clone()));
            let Log { asked, answers } = std::mem::take(&mut *recorder.log());
            match built {
                Ok(_) => Ok(Self { asked, answers: Arc::new(answers) }),
                Err(err) => Err(match pretrained {
                    Some(pretrained) => answers.explained(err, pretrained, &asked),
                    None => err,
                }),
            }
        })
    }

    /// Runs the constructor over what the source has for each request.
    pub(crate) fn build<T>(
        &self,
        source: &mut dyn ParamSource,
        constructor: impl FnOnce(VarBuilder<'static>) -> Result<T>,
    ) -> Result<T> {
        let tensors = self.serve(source)?;
        let (dtype, device) = self.kind(&tensors);
        let backend = ReplayBackend { tensors, answers: self.answers.clone(), dtype };
        constructor(VarBuilder::from_backend(Box::new(backend), dtype, device))
    }

    /// Asks the source for everything, in order.
    pub(crate) fn serve(&self, source: &mut dyn ParamSource) -> Result<HashMap<String, Tensor>> {
        source.takes_one_set();
        self.asked.iter().map(|request| Ok((request.name.clone(), request.ask(source)?))).collect()
    }

    /// The dtype and device of the target's parameters; buffers may have another.
    fn kind(&self, tensors: &HashMap<String, Tensor>) -> (DType, Device) {
        let mut params = self.asked.iter().filter(|request| !is_buffer(&request.name));
        match params.next().and_then(|first| tensors.get(&first.name)) {
            Some(like) => (like.dtype(), like.device().clone()),
            None => (DType::F32, Device::Cpu),
        }
    }

    /// What is no tensor of the layout but of the model all the same, by name.
    pub(crate) fn constants(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let asked = |name: &String| self.asked.iter().any(|request| request.name == *name);
        let constants = self.answers.constants.iter().filter(move |(name, _)| !asked(name));
        constants.map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The names that were not there when the constructor looked for them, and that it did without.
    pub(crate) fn absent(&self) -> Vec<String> {
        let looked_for = self.answers.looked_for.iter().filter(|(_, there)| !**there);
        let missing = self.answers.refusals.iter().filter(|refusal| refusal.is_missing());
        let absent = looked_for.map(|(name, _)| name).chain(missing.map(|missing| &missing.name));
        let mut absent: Vec<_> = absent.cloned().collect();
        absent.sort_unstable();
        absent.dedup();
        let asked: HashSet<_> = self.asked.iter().map(|request| &request.name).collect();
        absent.retain(|name| !asked.contains(name));
        absent
    }
}

impl Request {
    fn ask(&self, source: &mut dyn ParamSource) -> Result<Tensor> {
        let (name, dims, init) = (self.name.as_str(), self.shape.dims(), self.init);
        // A request does not say what the tensor is in its layer.
        let spec = ParamSpec { name, dims, kind: ParamKind::Tensor, init };
        if !is_buffer(name) {
            return source.param(&spec)?.to_tensor();
        }
        source.buffer_of(&spec, self.dtype.map_or(BufferDtype::Params, BufferDtype::Fixed))
    }
}

/// What is served as it is: integers, tensors without values, and those that a model made for itself.
fn is_constant(name: &str, tensor: &Tensor) -> bool {
    !tensor.dtype().is_float() || tensor.dims().contains(&0) || is_stored_name(name)
}

/// Running statistics, by the names that `candle_nn::batch_norm` asks for.
fn is_buffer(name: &str) -> bool {
    matches!(name.rsplit('.').next(), Some("running_mean" | "running_var"))
}

/// A request that was answered by an error, which the constructor may have put up with.
struct Refusal {
    name: String,
    /// The shape that was asked for; none where the request had none.
    shape: Option<Shape>,
    reason: Reason,
    text: String,
}

/// The errors of candle's builders, so that a constructor that looks at them finds them again.
enum Reason {
    Missing {
        path: String,
    },
    Shape {
        msg: String,
        got: Shape,
    },
    /// This crate's own.
    Ours(crate::Error),
    Other,
}

impl Reason {
    fn of(err: &Error) -> Self {
        if let Some(ours) = crate::Error::of(err) {
            return Self::Ours(ours.clone());
        }
        match err {
            Error::CannotFindTensor { path } => Self::Missing { path: path.clone() },
            Error::UnexpectedShape { msg, got, .. } => {
                Self::Shape { msg: msg.clone(), got: got.clone() }
            }
            Error::WithBacktrace { inner, .. } | Error::Context { inner, .. } => Self::of(inner),
            _ => Self::Other,
        }
    }
}

impl Refusal {
    fn new(name: &str, shape: Option<Shape>, err: &Error) -> Self {
        let text = err.to_string();
        let text = text.lines().next().unwrap_or_default().to_owned();
        Self { name: name.to_owned(), shape, reason: Reason::of(err), text }
    }

    fn is_missing(&self) -> bool {
        matches!(self.reason, Reason::Missing { .. })
    }

    /// The error that the builder gave when the constructor was recorded.
    fn error(&self) -> Error {
        let err = match (&self.reason, &self.shape) {
            (Reason::Missing { path }, _) => Error::CannotFindTensor { path: path.clone() },
            (Reason::Shape { msg, got }, Some(expected)) => Error::UnexpectedShape {
                msg: msg.clone(),
                expected: expected.clone(),
                got: got.clone(),
            },
            (Reason::Ours(err), _) => return err.clone().into(),
            _ => Error::Msg(self.text.clone()),
        };
        err.bt()
    }

    /// The refusal as an error of the pretrained network.
    fn explained(&self, pretrained: &Pretrained<'_>, asked: &[Request]) -> Error {
        match (&self.reason, &self.shape) {
            (Reason::Missing { .. }, Some(shape)) => {
                let asked = asked.iter().map(|request| request.name.as_str());
                let wanted: Vec<_> = asked.chain([self.name.as_str()]).collect();
                pretrained.missing(&wanted, &self.name, shape)
            }
            (Reason::Missing { .. }, None) => crate::error::layout(format!(
                "the pretrained network has no `{}`, whose shape the constructor takes from there",
                self.name
            )),
            (_, Some(shape)) => unlike(&self.name, shape, &self.text),
            (_, None) => self.error(),
        }
    }
}

impl Answers {
    /// What the pretrained network lacks, where that is why the constructor failed.
    fn explained(&self, err: Error, pretrained: &Pretrained<'_>, asked: &[Request]) -> Error {
        let text = err.to_string();
        let cause = self.refusals.iter().rev().find(|refusal| text.contains(&refusal.text));
        cause.map_or(err, |refusal| refusal.explained(pretrained, asked))
    }

    fn refusal(&self, name: &str, shape: Option<&Shape>) -> Option<&Refusal> {
        self.refusals.iter().find(|refusal| refusal.name == name && refusal.shape.as_ref() == shape)
    }
}

#[derive(Default)]
struct Log {
    asked: Vec<Request>,
    answers: Answers,
}

impl Log {
    fn shape_of(&self, name: &str) -> Option<&Shape> {
        self.asked.iter().find(|request| request.name == name).map(|request| &request.shape)
    }

    fn note(&mut self, request: Request, answer: Result<Tensor>) -> Result<Tensor> {
        match &answer {
            Ok(tensor) if is_constant(&request.name, tensor) => {
                self.answers.constants.insert(request.name, tensor.detach());
            }
            Ok(_) if self.shape_of(&request.name).is_none() => self.asked.push(request),
            Ok(_) => {}
            Err(err) => self.refuse(&request.name, Some(request.shape), err),
        }
        answer
    }

    fn refuse(&mut self, name: &str, shape: Option<Shape>, err: &Error) {
        self.answers.refusals.push(Refusal::new(name, shape, err));
    }
}

/// Keeps the record, and answers as the ordinary model's builder does: that of the pretrained network,
/// or of an empty `VarMap` where there is none. What starts afresh is of zeros that take no memory.
#[derive(Clone)]
struct RecordingBackend {
    log: Arc<Mutex<Log>>,
    network: LentNetwork,
    /// The builder's dtype.
    dtype: DType,
}

impl RecordingBackend {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, request: &Request, dtype: DType, device: &Device) -> Result<Tensor> {
        let Request { name, shape, init, .. } = request;
        if !dtype.is_float() {
            crate::error::bail!(
                dtype,
                "the constructor asks for `{name}` as {dtype:?}, expected a floating dtype"
            );
        }
        if let Some(earlier) = self.log().shape_of(name).filter(|earlier| *earlier != shape) {
            crate::error::bail!(
                declaration,
                "the constructor asks for `{name}` with shape {:?} and with shape {:?}",
                earlier.dims(),
                shape.dims()
            );
        }
        if shape.dims().contains(&0) {
            // Some inits are an error without values, which a model may count on.
            return Ok(init.var(shape.clone(), dtype, device)?.into_inner());
        }
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }
}

impl SimpleBackend for RecordingBackend {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        if is_stored_name(name)
            && !self.network.with(|network| network.is_some_and(|n| n.has(name)))
        {
            bail!("`{name}` is made by the model itself");
        }
        let other = (dtype != self.dtype).then_some(dtype);
        let request = Request { name: name.to_owned(), shape, init, dtype: other };
        let found = self.network.with(|network| {
            let network = network.filter(|network| !network.starts_afresh(name))?;
            let found = network.get(&request.shape, name, init, dtype);
            Some(found.and_then(|tensor| tensor.to_device(device)?.to_dtype(dtype)))
        });
        let answer = found.unwrap_or_else(|| self.fresh(&request, dtype, device));
        self.log().note(request, answer)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let found = self.network.with(|network| {
            let found = network?.get_unchecked(name, dtype);
            Some(found.and_then(|tensor| tensor.to_device(device)?.to_dtype(dtype)))
        });
        let found = found.unwrap_or_else(|| without_shape(name));
        match found {
            Ok(tensor) => {
                let (shape, other) =
                    (tensor.shape().clone(), (dtype != self.dtype).then_some(dtype));
                let init = Init::default();
                let request = Request { name: name.to_owned(), shape, init, dtype: other };
                self.log().note(request, Ok(tensor))
            }
            Err(err) => {
                self.log().refuse(name, None, &err);
                Err(err)
            }
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        if self.log().shape_of(name).is_some() {
            return true;
        }
        let there = self.network.with(|network| network.is_some_and(|network| network.has(name)));
        self.log().answers.looked_for.insert(name.to_owned(), there);
        there
    }
}

fn without_shape(name: &str) -> Result<Tensor> {
    crate::error::bail!(
        declaration,
        "the constructor asks for `{name}` without a shape, so its size is not known"
    )
}

/// Answers with the tensors of the record's names, as a checkpoint of the target would, and otherwise as the
/// recorder did, so that the constructor takes the same way through the model.
struct ReplayBackend {
    tensors: HashMap<String, Tensor>,
    answers: Arc<Answers>,
    /// The builder's dtype.
    dtype: DType,
}

impl ReplayBackend {
    fn find(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name).or_else(|| self.answers.constants.get(name))
    }

    /// A tensor in the dtype that was asked for, on the device. A running statistic is served as it is, a
    /// variable, in the dtype in which its layer computes.
    fn convert(
        &self,
        name: &str,
        tensor: &Tensor,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let tensor = tensor.to_device(device)?;
        if is_buffer(name) && dtype == self.dtype { Ok(tensor) } else { tensor.to_dtype(dtype) }
    }
}

impl SimpleBackend for ReplayBackend {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        if let Some(tensor) = self.find(name).filter(|tensor| *tensor.shape() == shape) {
            return self.convert(name, tensor, dtype, device);
        }
        if let Some(refusal) = self.answers.refusal(name, Some(&shape)) {
            return Err(refusal.error());
        }
        crate::error::bail!(
            declaration,
            "the constructor asks for `{name}` of shape {:?}, which it did not when its layout was taken",
            shape.dims()
        )
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        if let Some(refusal) = self.answers.refusal(name, None) {
            return Err(refusal.error());
        }
        let Some(tensor) = self.find(name) else { return without_shape(name) };
        self.convert(name, tensor, dtype, device)
    }

    /// A model that looks for a name before it asks for it finds it now, and takes it as it is.
    fn contains_tensor(&self, name: &str) -> bool {
        self.find(name).is_some() || self.answers.looked_for.get(name) == Some(&true)
    }
}
