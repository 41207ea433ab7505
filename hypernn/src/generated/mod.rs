//! Generated parameters: the flat vector a hypernetwork made, cut into the target's tensors.

mod buffers;
mod forward;
mod moved;
mod same_model;
pub(crate) mod scale;
mod sets;
pub(crate) mod stack;

use std::any::TypeId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

pub use buffers::Buffers;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use crate::check::ensure_same_device;
use crate::finite::ensure_finite;
use crate::generator::GeneratorOutput;
use crate::nn::internal;
use crate::ops::split::{Cuts, Sink, Unstack, Watch, split};
use crate::pretrained::{Pretrained, Starts};
use crate::target::adapter::Adapter;
use crate::target::constructor::Requests;
use crate::target::layout::{Layout, ParamInfo, Place};
use crate::target::name::short_name;
use crate::target::recorded::{Recorded, recorded};
use crate::target::role::{Role, Roles};
use crate::target::source::{BufferDtype, ParamSource, ParamSpec, Served};
use crate::target::value::{Made, Values};
use crate::target::{ForwardTarget, ForwardTargetT, HyperTarget};
use scale::Scales;

/// A target with its configuration and layout, shared by all that is generated for it.
///
/// Nothing but [`new`](Self::new) asks for a [`HyperTarget`], so that a type that is none is one
/// error.
pub struct TargetPlan<T> {
    pub(crate) name: &'static str,
    pub(crate) layout: Layout,
    pub(crate) starts: Starts,
    /// What fields without parameters hold.
    pub(crate) values: Values,
    roles: Vec<(String, Role)>,
    model: Model<T>,
    /// What forwards over several sets were seen to do.
    forwards: Forwards,
}

/// How a target is built.
enum Model<T> {
    Declared {
        build: Box<Build<T>>,
        /// Whether the type says all: there is no configuration.
        of_type_alone: bool,
    },
    /// By the constructor, which was run for its requests: over a pretrained network, or over none.
    Constructed {
        constructor: Box<Constructor<T>>,
        requests: Requests,
        over_pretrained: bool,
        /// Whether outputs have shown that it builds the same model each time.
        is_same: AtomicBool,
    },
}

/// Whether a target's forward looks at the weights of its layers.
#[derive(Default)]
struct Forwards {
    looked: AtomicBool,
    /// One in training went without: what it does in evaluation says nothing about training.
    trained_without: AtomicBool,
    /// Outputs have shown that what is made anew in each build is the same each time.
    same_values: AtomicBool,
}

impl Forwards {
    fn look_at_weights(&self) -> bool {
        self.looked.load(Ordering::Relaxed)
    }

    fn are_known_in_training(&self) -> bool {
        self.looked.load(Ordering::Relaxed) || self.trained_without.load(Ordering::Relaxed)
    }

    fn saw_weights(&self) {
        self.looked.store(true, Ordering::Relaxed);
    }

    fn saw_none(&self, train: bool) {
        if train && !self.trained_without.load(Ordering::Relaxed) {
            self.trained_without.store(true, Ordering::Relaxed);
        }
    }
}

type Build<T> = dyn Fn(&mut dyn ParamSource) -> Result<T> + Send + Sync;

type Constructor<T> = dyn Fn(VarBuilder<'static>) -> Result<T> + Send + Sync;

impl<T: HyperTarget> Model<T> {
    fn declared(config: &T::Config) -> Self {
        let of_type_alone = TypeId::of::<T::Config>() == TypeId::of::<()>();
        let config = config.clone();
        let build = move |source: &mut dyn ParamSource| T::build_by_sets(&config, source);
        Self::Declared { build: Box::new(build), of_type_alone }
    }
}

impl<T> Model<T> {
    /// Whether the type says all: there is no configuration and no constructor.
    fn is_of_type_alone(&self) -> bool {
        matches!(self, Self::Declared { of_type_alone: true, .. })
    }

    fn build(&self, source: &mut dyn ParamSource) -> Result<T> {
        match self {
            Self::Declared { build, .. } => build(source),
            Self::Constructed { constructor, requests, .. } => requests.build(source, constructor),
        }
    }

    /// The layout, and what was made for fields without parameters.
    fn record(&self, roles: &[(String, Role)]) -> Result<Recorded> {
        let roles = Roles::new(roles);
        match self {
            Self::Declared { build, .. } => Layout::record(roles, |source| build(source).map(drop)),
            Self::Constructed { requests, .. } => {
                let (layout, values) =
                    Layout::record(roles, |source| requests.serve(source).map(drop))?;
                Ok((layout.with_absent(requests.absent()), values))
            }
        }
    }

    /// The same model as it is over a pretrained network, where that decides what the model is.
    fn over(self, pretrained: &Pretrained<'_>, kind: (DType, &Device)) -> Result<Self> {
        match self {
            Self::Constructed { constructor, over_pretrained: false, .. } => {
                let requests = Requests::record(&constructor, Some(pretrained), kind)?;
                let is_same = AtomicBool::new(false);
                Ok(Self::Constructed { constructor, requests, over_pretrained: true, is_same })
            }
            model => Ok(model),
        }
    }
}

impl<T: HyperTarget> TargetPlan<T> {
    /// The plan for a configuration.
    ///
    /// # Errors
    /// An invalid size, or two tensors of one name.
    pub fn new(config: &T::Config) -> Result<Self> {
        Self::record(T::NAME, Model::declared(config))
    }

    /// The plan for a flat vector, of no network: what was recorded for the type serves again.
    fn of_flat(config: &T::Config) -> Result<Self> {
        let recorded = Recorded::clone(&*recorded::<T>(config)?);
        let plan = Self::of(T::NAME, Model::declared(config), recorded);
        // A plan for each flat vector would look each time.
        plan.forwards.same_values.store(true, Ordering::Relaxed);
        Ok(plan)
    }
}

impl<T> TargetPlan<T> {
    /// The plan for a model that is built from a `VarBuilder`, by its constructor; see
    /// [`constructor`](crate::target::constructor).
    ///
    /// # Errors
    /// The constructor's own, a tensor that is asked for without a shape, with two shapes or in a
    /// dtype that is not floating, or no parameters at all.
    pub fn from_constructor(
        constructor: impl Fn(VarBuilder<'static>) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::by_constructor(constructor, None, (DType::F32, &Device::Cpu))
    }

    /// As [`from_constructor`](Self::from_constructor), for a hypernetwork of this dtype, on this device,
    /// and for a model that is built over a pretrained network, which
    /// [`with_pretrained`](Self::with_pretrained) then takes: its constructor may need the network even to run.
    ///
    /// # Errors
    /// Those of the constructor over the pretrained network, or no parameters at all.
    #[doc(hidden)]
    pub fn by_constructor(
        constructor: impl Fn(VarBuilder<'static>) -> Result<T> + Send + Sync + 'static,
        pretrained: Option<&Pretrained<'_>>,
        kind: (DType, &Device),
    ) -> Result<Self> {
        let requests = Requests::record(&constructor, pretrained, kind)?;
        let (constructor, over_pretrained) = (Box::new(constructor), pretrained.is_some());
        let is_same = AtomicBool::new(false);
        let model = Model::Constructed { constructor, requests, over_pretrained, is_same };
        Self::record(short_name::<T>(), model)
    }

    fn record(name: &'static str, model: Model<T>) -> Result<Self> {
        let recorded = model.record(&[])?;
        recorded.0.ensure_parameters(name)?;
        Ok(Self::of(name, model, recorded))
    }

    fn of(name: &'static str, model: Model<T>, (layout, values): Recorded) -> Self {
        let (starts, forwards) = (Starts::default(), Forwards::default());
        Self { name, layout, starts, values, roles: Vec::new(), model, forwards }
    }

    /// The same target with other roles for the tensors that a pattern matches, and no pretrained
    /// network; see [`role`](crate::target::role).
    ///
    /// # Errors
    /// A pattern that decides nothing, shared tensors of different shapes, or nothing to generate.
    pub fn with_roles(self, roles: &[(&str, Role)]) -> Result<Self> {
        let roles: Vec<_> = roles.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect();
        let (layout, values) = self.model.record(&roles)?;
        layout.ensure_parameters(self.name)?;
        Ok(Self { layout, values, starts: Starts::default(), roles, ..self })
    }

    /// The same target, with the roles that it has, starting from a pretrained network in this dtype,
    /// on this device. A model by constructor is the one that its constructor builds over this network.
    ///
    /// # Errors
    /// The network lacks a tensor, or has one of another shape.
    pub fn with_pretrained<'a>(
        self,
        pretrained: impl Into<Pretrained<'a>>,
        (dtype, device): (DType, &Device),
    ) -> Result<Self> {
        let pretrained = pretrained.into();
        let model = self.model.over(&pretrained, (dtype, device))?;
        let (layout, mut values) = model.record(&self.roles)?;
        layout.ensure_parameters(self.name)?;
        let starts = pretrained.starts(&layout, dtype, device)?;
        for (name, tensor) in values.names.iter().zip(&mut values.tensors) {
            *tensor = pretrained.value(&layout, name, tensor)?;
        }
        Ok(Self { layout, values, starts, model, ..self })
    }

    /// Where it is noted that the model is the same in each build, if that is to be seen.
    fn same(&self) -> Option<&AtomicBool> {
        match &self.model {
            Model::Constructed { is_same, .. } => Some(is_same),
            Model::Declared { .. } => self.values.anew.as_ref().map(|_| &self.forwards.same_values),
        }
    }

    /// The name and tensor of what is neither generated nor kept, but a part of the model: integers of
    /// a pretrained network, and tensors without values.
    pub(crate) fn constants(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let requests = match &self.model {
            Model::Declared { .. } => None,
            Model::Constructed { requests, .. } => Some(requests),
        };
        requests.into_iter().flat_map(Requests::constants)
    }

    /// Which tensor lies where in the flat vector.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The number of the target's parameters.
    pub fn num_params(&self) -> usize {
        self.layout.num_params()
    }
}

/// The parameters of a target `T`, as a hypernetwork generated them: one set, or one per row or
/// task.
///
/// Generated once, they serve any number of forward passes, and their gradient reaches the
/// hypernetwork's variables through each.
///
/// ```
/// use candle_core::{DType, Device, Result, Tensor};
/// use hypernn::nn::{Linear, VarBuilder, VarMap};
/// use hypernn::{GeneratedParams, HyperTarget, hypernetwork};
///
/// #[derive(HyperTarget)]
/// #[hyper(sequential)]
/// struct Net {
///     #[hyper(linear(4, 2))]
///     fc: Linear,
/// }
///
/// hypernetwork! {
///     struct HyperNet for Net {
///         embedding: encoder(3, [8], tanh, 5, 2),
///         generator: linear,
///         mode: dynamic,
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let vars = VarMap::new();
/// let hyper = HyperNet::new(VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
/// let ones = |dims: &[usize]| Tensor::ones(dims, DType::F32, &Device::Cpu);
///
/// // One condition, one set of weights, for any number of rows.
/// let params: GeneratedParams<Net> = hyper.generate_params(&ones(&[3])?)?;
/// assert_eq!(params.num_sets(), None);
/// assert_eq!(params.forward(&ones(&[7, 4])?)?.dims(), [7, 2]);
/// let net: Net = params.unpack()?;
/// assert_eq!(net.fc.weight().dims(), [2, 4]);
///
/// // Two conditions, two sets: the first half of the rows goes through the first.
/// let params = hyper.generate_params(&ones(&[2, 3])?)?;
/// assert_eq!((params.num_sets(), params.flat()?.dims()), (Some(2), &[2, 10][..]));
/// assert_eq!(params.forward(&ones(&[6, 4])?)?.dims(), [6, 2]);
/// # Ok(())
/// # }
/// ```
pub struct GeneratedParams<T> {
    plan: Arc<TargetPlan<T>>,
    sets: Option<usize>,
    /// The target's tensors in flat order, `[dims…]` or `[G, dims…]`.
    tensors: Vec<Tensor>,
    /// A shorter way for the gradient of each, where there is one.
    sinks: Vec<Option<Sink>>,
    /// See the gradients of what was generated, where gradients flow back.
    watches: Arc<[Watch]>,
    /// The sets of each tensor, once one was asked for by itself.
    by_set: Arc<OnceLock<Vec<Unstack>>>,
    kept: Kept,
}

/// The target's tensors that are not generated, in the order of its layout.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    /// Parameters that are trained or frozen.
    pub(crate) params: Arc<[Tensor]>,
    /// Running statistics.
    pub(crate) buffers: Arc<[Tensor]>,
    /// How many sets of running statistics there are; none where all weight sets share one.
    pub(crate) buffer_sets: Option<usize>,
    /// Tensors of fields without parameters.
    pub(crate) values: Arc<[Tensor]>,
    /// A hash of each frozen tensor, once it was asked for: these never change.
    pub(crate) hashes: Arc<OnceLock<Vec<String>>>,
}

impl<T> Clone for GeneratedParams<T> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            sets: self.sets,
            tensors: self.tensors.clone(),
            sinks: self.sinks.clone(),
            watches: self.watches.clone(),
            by_set: self.by_set.clone(),
            kept: self.kept.clone(),
        }
    }
}

impl<T> std::fmt::Debug for GeneratedParams<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeneratedParams")
            .field("target", &format_args!("{}", self.plan.name))
            .field("sets", &self.sets)
            .field("parameters", &self.plan.layout.num_params())
            .finish()
    }
}

impl<T: HyperTarget> GeneratedParams<T> {
    /// Takes a flat vector `[P]`, or `G` sets `[G, P]`, as it is.
    ///
    /// # Errors
    /// The vector's length, rank or dtype is not the target's.
    pub fn from_flat(config: &T::Config, flat: &Tensor) -> Result<Self> {
        let plan = Arc::new(TargetPlan::of_flat(config)?);
        let kept = Kept { values: plan.values.tensors.clone().into(), ..Kept::default() };
        Self::from_flat_and_kept(plan, flat, kept)
    }
}

impl<T> GeneratedParams<T> {
    /// Cuts what a generator gave, `[N, C]` or `[G, N, C]`, surplus included.
    pub(crate) fn from_generated(
        plan: Arc<TargetPlan<T>>,
        generated: &GeneratorOutput,
        sets: Option<usize>,
        scales: &Scales,
        kept: Kept,
    ) -> Result<Self> {
        let mut cuts = split(generated, sets, scales.pattern())?;
        scales.add_bases(&mut cuts)?;
        let Cuts { tensors, sinks, watch } = cuts;
        let sink = |(index, sink)| scales.keeps_gradient(index).then_some(sink);
        let sinks = sinks.into_iter().enumerate().map(sink).collect();
        let watches = watch.into_iter().collect();
        Ok(Self { plan, sets, tensors, sinks, watches, by_set: Arc::default(), kept })
    }

    /// Takes a flat vector `[P]`, or `G` sets `[G, P]`, as it is, with the tensors that a hypernetwork
    /// keeps.
    pub(crate) fn from_flat_and_kept(
        plan: Arc<TargetPlan<T>>,
        flat: &Tensor,
        kept: Kept,
    ) -> Result<Self> {
        let (sets, scales) = (check_flat(&plan, flat)?, Scales::identity(&plan.layout));
        Self::from_generated(plan, &flat.clone().into(), sets, &scales, kept)
    }

    /// Tensors that were generated before, `[dims…]` or `[G, dims…]`, in the order of the layout.
    pub(crate) fn from_tensors(
        plan: Arc<TargetPlan<T>>,
        tensors: Vec<Tensor>,
        sets: Option<usize>,
        kept: Kept,
    ) -> Self {
        let (watches, by_set) = (Arc::default(), Arc::default());
        Self { plan, sets, tensors, sinks: Vec::new(), watches, by_set, kept }
    }

    /// Other tensors made of these.
    fn with_tensors(&self, tensors: Vec<Tensor>, sets: Option<usize>, kept: Kept) -> Self {
        let made = Self::from_tensors(self.plan.clone(), tensors, sets, kept);
        Self { watches: self.watches.clone(), ..made }
    }

    /// The tensors, each with a gradient that costs no more than the tensor.
    fn tracked(&self) -> impl Iterator<Item = Result<Tensor>> {
        (0..self.tensors.len()).map(|index| served(&self.tensors, &self.sinks, index).tracked())
    }

    /// The number of sets; `None` where one set serves every row.
    pub fn num_sets(&self) -> Option<usize> {
        self.sets
    }

    /// Which tensor lies where in the flat vector.
    pub fn layout(&self) -> &Layout {
        &self.plan.layout
    }

    /// The generated tensors with their places in the layout, in flat order; each of shape `[dims…]`,
    /// or `[G, dims…]` for `G` sets.
    pub fn tensors(&self) -> impl Iterator<Item = (&ParamInfo, &Tensor)> {
        self.plan.layout.params().iter().zip(&self.tensors)
    }

    pub(crate) fn plan(&self) -> &TargetPlan<T> {
        &self.plan
    }

    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Every tensor of the target by its name: generated, kept, buffers and constants.
    pub(crate) fn named(&self) -> Result<Vec<(String, Tensor)>> {
        let source = GeneratedSource::new(self, false);
        let params = self.layout().places().iter().map(|(name, place)| {
            let (base, adapter) = source.find(name, *place)?;
            let base = base.tracked()?;
            let tensor = adapter.map_or(Ok(base.clone()), |adapter| adapter.merge(&base))?;
            Ok((name.clone(), tensor))
        });
        let mut named = params.collect::<Result<Vec<_>>>()?;
        let buffers = self.layout().buffers().iter().zip(self.kept.buffers.iter());
        named.extend(buffers.map(|(buffer, tensor)| (buffer.name.clone(), tensor.clone())));
        let constants = self.plan.constants();
        named.extend(constants.map(|(name, tensor)| (name.to_owned(), tensor.clone())));
        let values = self.plan.values.names.iter().zip(self.kept.values.iter());
        named.extend(values.map(|(name, tensor)| (name.clone(), tensor.clone())));
        Ok(named)
    }

    /// The flat vector, `[P]` or `[G, P]`.
    ///
    /// # Errors
    /// candle's own.
    pub fn flat(&self) -> Result<Tensor> {
        flatten(&self.tracked().collect::<Result<Vec<_>>>()?, self.sets)
    }

    /// An ordinary target over the generated tensors; gradients flow through it.
    ///
    /// # Errors
    /// Several sets of a target whose layers take one at a time, or the target's own.
    pub fn unpack(&self) -> Result<T> {
        self.unpack_t(false)
    }

    /// As [`unpack`](Self::unpack), in training or not: in training, low-rank
    /// [adapters](crate::target::adapter) drop a part of their inputs, where they have a dropout.
    ///
    /// # Errors
    /// As there.
    pub fn unpack_t(&self, train: bool) -> Result<T> {
        match self.sets.zip(self.one_set_layer()) {
            Some((1, _)) => self.set(0)?.unpack_t(train),
            Some((sets, layer)) => candle_core::bail!("{}", self.one_at_a_time(sets, layer)),
            None => self.plan.model.build(&mut GeneratedSource::new(self, train)),
        }
    }

    /// Why a target that computes with one set of weights at a time can't have several.
    fn one_at_a_time(&self, sets: usize, layer: &str) -> String {
        let name = self.plan.name;
        let but = format!("but these are {sets}: unpack `params.set(i)?` for each");
        if layer.is_empty() {
            let how = match self.plan.model {
                Model::Constructed { .. } => "built by its constructor, for",
                Model::Declared { .. } => "a target by hand, which takes",
            };
            return format!("{name} is {how} one set of weights at a time, {but}");
        }
        if self.layout().params().iter().any(|param| param.name == layer) {
            return format!(
                "`{layer}` of {name} is a bare tensor, which is that of one set of weights, {but}, or write `tensor(…, sets = true)` where the forward takes `[G, …]`"
            );
        }
        format!(
            "layer `{layer}` of {name} computes with one set of weights at a time, {but}, or take the layer from `hypernn::nn`"
        )
    }

    /// Applies the target; the input's rows are shared out among the sets, and the result is that of
    /// each set by itself.
    ///
    /// All sets go through the target at once where its layers take several sets, and one after the
    /// other elsewhere: with a layer of `candle_nn`, with a bare tensor that is generated, and where the
    /// target's own forward asks a layer for its weights, `self.embed.embeddings()` say, since these
    /// are then `[G, …]`.
    ///
    /// # Errors
    /// Rows that are not a multiple of the number of sets, or the target's own. At the first forward of a
    /// target by constructor also a constructor that draws values by itself, others for each model; likewise a
    /// [field](crate::target::value) that is made anew in each build, and is another each time.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor>
    where
        T: ForwardTarget,
    {
        let outputs = self.apply(xs, false, |target, xs| target.forward(xs));
        outputs.map_err(|err| self.with_dtypes(err, xs))
    }

    /// As [`forward`](Self::forward), for a target that behaves otherwise in training.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor>
    where
        T: ForwardTargetT,
    {
        let outputs = self.apply(xs, train, |target, xs| target.forward_t(xs, train));
        outputs.map_err(|err| self.with_dtypes(err, xs))
    }

    /// The same values, cut off from the hypernetwork: no gradient flows back, and nothing of the
    /// hypernetwork's graph is held in memory.
    ///
    /// Parameters that are kept for later, and all that is computed with them, should be detached
    /// where nothing is to be learned: otherwise each of them, and each value computed with them, such
    /// as the keys and values of a cache, holds what it was computed from.
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
    ///     struct HyperNet for Net { embedding: table(5, 3), generator: linear, mode: static }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
    /// let xs = Tensor::ones((1, 4), DType::F32, &Device::Cpu)?;
    /// let params = hyper.generate_params()?;
    /// assert!(params.forward(&xs)?.track_op());
    /// assert!(!params.detach().forward(&xs)?.track_op());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn detach(&self) -> Self {
        let tensors = self.tensors.iter().map(Tensor::detach).collect();
        let params = self.kept.params.iter().map(Tensor::detach).collect();
        let kept = Kept { params, ..self.kept.clone() };
        Self::from_tensors(self.plan.clone(), tensors, self.sets, kept)
    }

    /// The gradients of a loss, and what each generated tensor got of them, `[dims…]` or
    /// `[G, dims…]`.
    pub(crate) fn backward(&self, loss: &Tensor) -> Result<(GradStore, Vec<Option<Tensor>>)> {
        let mut filed = Vec::with_capacity(self.watches.len());
        let grads = watched(&self.watches, loss, &mut filed)?;
        let grad = |index: usize| self.grad(filed.iter().rev().map(|grads| &grads[index]), index);
        Ok((grads, (0..self.tensors.len()).map(grad).collect::<Result<_>>()?))
    }

    /// The gradient of a tensor that was put together from those that several splits gave.
    fn grad<'a>(
        &self,
        filed: impl Iterator<Item = &'a Option<Tensor>>,
        index: usize,
    ) -> Result<Option<Tensor>> {
        let found: Vec<_> = filed.flatten().collect();
        if let [] | [_] = &found[..] {
            return Ok(found.first().map(|grad| (*grad).clone()));
        }
        let dims = self.layout().params()[index].shape.dims();
        let by_set = found.into_iter().map(|grad| {
            let sets = grad.elem_count() / dims.iter().product::<usize>().max(1);
            grad.reshape([&[sets], dims].concat())
        });
        Tensor::cat(&by_set.collect::<Result<Vec<_>>>()?, 0).map(Some)
    }

    /// The device that holds them.
    pub fn device(&self) -> &Device {
        // A layout has at least one parameter.
        self.tensors.first().map_or(&Device::Cpu, Tensor::device)
    }

    /// Looks for values that are NaN or infinite.
    ///
    /// # Errors
    /// A tensor has such values: its name, their number and the index of the first.
    pub fn check_finite(&self) -> Result<()> {
        self.tensors().try_for_each(|(param, tensor)| {
            let what = || format!("generated parameter `{}` of {}", param.name, self.plan.name);
            ensure_finite(what, tensor)
        })
    }
}

/// Runs a backward pass that all of these watch, and adds what each saw, the last first.
fn watched(
    watches: &[Watch],
    loss: &Tensor,
    filed: &mut Vec<Vec<Option<Tensor>>>,
) -> Result<GradStore> {
    let Some((watch, others)) = watches.split_first() else { return loss.backward() };
    let (grads, of_watch) = watch.pass(|| watched(others, loss, filed))?;
    filed.push(of_watch);
    Ok(grads)
}

/// The number of sets in a flat vector, after its shape and dtype have been checked.
fn check_flat<T>(plan: &TargetPlan<T>, flat: &Tensor) -> Result<Option<usize>> {
    let TargetPlan { name, layout, .. } = plan;
    let expected = layout.num_params();
    let (sets, found) = match *flat.dims() {
        [found] => (None, found),
        [0, _] => crate::error::bail!(
            shape,
            "the flat vector of {} has shape {:?}, expected at least one set",
            name,
            flat.dims()
        ),
        [sets, found] => (Some(sets), found),
        _ => crate::error::bail!(
            shape,
            "the flat vector of {} has shape {:?}, expected [{expected}], or [G, {expected}] for G sets",
            name,
            flat.dims()
        ),
    };
    if !flat.dtype().is_float() {
        crate::error::bail!(
            dtype,
            "the flat vector of {} has dtype {:?}, expected a floating dtype",
            name,
            flat.dtype()
        );
    }
    if found < expected {
        let starved = layout.param_at(found).map_or("", |param| param.name.as_str());
        crate::error::bail!(
            shape,
            "the flat vector of {} has {found} values, expected {expected}: `{starved}` runs out of values",
            name
        );
    }
    if found > expected {
        crate::error::bail!(
            shape,
            "the flat vector of {} has {found} values, expected {expected}: the last {} feed no parameter",
            name,
            found - expected
        );
    }
    Ok(sets)
}

/// Serves tensors in the order of the layout.
struct GeneratedSource<'a> {
    places: std::slice::Iter<'a, (String, Place)>,
    generated: &'a [Tensor],
    sinks: &'a [Option<Sink>],
    kept: &'a [Tensor],
    buffers: std::slice::Iter<'a, Tensor>,
    values: std::slice::Iter<'a, Tensor>,
    made: std::slice::Iter<'a, Made>,
    sets: Option<usize>,
    buffer_sets: Option<usize>,
    train: bool,
}

impl<'a> GeneratedSource<'a> {
    fn new<T>(params: &'a GeneratedParams<T>, train: bool) -> Self {
        Self {
            places: params.layout().places().iter(),
            generated: &params.tensors,
            sinks: &params.sinks,
            kept: &params.kept.params,
            buffers: params.kept.buffers.iter(),
            values: params.kept.values.iter(),
            made: params.plan.values.made.iter(),
            sets: params.sets,
            buffer_sets: params.kept.buffer_sets,
            train,
        }
    }

    /// A tensor, or a base and its adapter.
    fn find(&self, name: &str, place: Place) -> Result<(Served, Option<Adapter>)> {
        match place {
            Place::Generated(index) => Ok((served(self.generated, self.sinks, index), None)),
            Place::Kept(base) => Ok((self.kept(name, base)?.into(), None)),
            Place::Adapted { base, down, scale, dropout } => {
                let dropout = if self.train { dropout } else { 0. };
                let adapter = self.adapter(down, scale, dropout);
                Ok((self.kept(name, base)?.into(), Some(adapter)))
            }
        }
    }

    /// The adapter whose factors are generated from `down` on.
    fn adapter(&self, down: usize, scale: f64, dropout: f32) -> Adapter {
        let factor = |index: usize| served(self.generated, self.sinks, index);
        Adapter { down: factor(down), up: factor(down + 1), scale, dropout, merged: Arc::default() }
    }

    /// A tensor that the hypernetwork keeps, in the dtype of those that it generates.
    fn kept(&self, name: &str, index: usize) -> Result<Tensor> {
        let Some(tensor) = self.kept.get(index) else {
            crate::error::bail!(
                declaration,
                "`{name}` is not generated: a hypernetwork keeps it, and a flat vector does not hold it; the hypernetwork's `params_from_flat` adds it"
            )
        };
        self.generated.first().map_or(Ok(tensor.clone()), |like| tensor.to_dtype(like.dtype()))
    }

    fn check(&self, spec: &ParamSpec<'_>, tensor: &Tensor, sets: Option<usize>) -> Result<()> {
        let skip = usize::from(sets.is_some());
        if tensor.dims().get(skip..) != Some(spec.dims) {
            crate::error::bail!(
                declaration,
                "`{}` of shape {:?} was asked for, but the layout has shape {:?} there: the target's sizes changed after its layout was taken",
                spec.name,
                spec.dims,
                tensor.dims()
            );
        }
        Ok(())
    }
}

impl ParamSource for GeneratedSource<'_> {
    fn enter(&mut self, _name: &str) {}

    fn leave(&mut self) {}

    fn param(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        self.param_with_sink(spec)?.tracked()
    }

    fn param_with_sink(&mut self, spec: &ParamSpec<'_>) -> Result<Served> {
        let (base, adapter) = self.adapted(spec)?;
        match adapter {
            Some(adapter) => Ok(adapter.merge(&base.tensor)?.into()),
            None => Ok(base),
        }
    }

    fn adapted(&mut self, spec: &ParamSpec<'_>) -> Result<(Served, Option<Adapter>)> {
        let Some((name, place)) = self.places.next() else {
            crate::error::bail!(
                declaration,
                "`{}` was asked for, but the layout has no more parameters",
                spec.name
            );
        };
        let sets = self.sets.filter(|_| matches!(place, Place::Generated(_)));
        let (base, adapter) = self.find(name, *place)?;
        self.check(spec, &base.tensor, sets)?;
        Ok((base, adapter))
    }

    /// The variable itself where the layer can compute with it, which it then also changes.
    fn buffer_of(&mut self, spec: &ParamSpec<'_>, dtype: BufferDtype) -> Result<Tensor> {
        let buffer = self.buffer(spec)?;
        // A layout has at least one parameter.
        let params = self.generated[0].dtype();
        match dtype {
            BufferDtype::Any => Ok(buffer),
            BufferDtype::Fixed(dtype) => buffer.to_dtype(dtype),
            // In training, candle computes in this dtype.
            BufferDtype::Params if self.train && buffer.dtype() == internal(params) => Ok(buffer),
            BufferDtype::Params => buffer.to_dtype(params),
        }
    }

    fn fixed(&mut self, _name: &str, make: &mut dyn FnMut() -> Result<Tensor>) -> Result<Tensor> {
        self.values.next().map_or_else(make, |tensor| Ok(tensor.clone()))
    }

    fn made(&mut self, make: &mut dyn FnMut() -> Made) -> Made {
        self.made.next().map_or_else(make, Arc::clone)
    }

    /// Buffers start afresh where the hypernetwork keeps none.
    fn buffer(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        match self.buffers.next() {
            Some(tensor) => {
                self.check(spec, tensor, self.buffer_sets)?;
                Ok(tensor.clone())
            }
            None => {
                // A layout has at least one parameter.
                let like = &self.generated[0];
                Ok(spec.init.var(spec.dims, like.dtype(), like.device())?.into_inner())
            }
        }
    }
}

/// A generated tensor with its sink.
fn served(tensors: &[Tensor], sinks: &[Option<Sink>], index: usize) -> Served {
    Served::new(tensors[index].clone(), sinks.get(index).cloned().flatten())
}

/// The flat vector of tensors `[dims…]`, or of `[G, dims…]`.
fn flatten(tensors: &[Tensor], sets: Option<usize>) -> Result<Tensor> {
    let rows = tensors.iter().map(|tensor| match sets {
        None => tensor.flatten_all(),
        Some(sets) => tensor.reshape((sets, ())),
    });
    Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, candle_core::D::Minus1)
}

/// The generated parameters of a network as one flat vector.
pub(crate) fn pack<T: HyperTarget>(net: &T, layout: &Layout) -> Result<Tensor> {
    let (mut tensors, mut found) = (Vec::with_capacity(layout.params().len()), 0);
    net.visit(&mut |_name, tensor| {
        let place = layout.places().get(found).map(|(_, place)| *place);
        if place == Some(Place::Generated(tensors.len())) {
            tensors.push(tensor.clone());
        }
        found += 1;
        Ok(())
    })?;
    let expected = layout.places().len();
    if found != expected {
        crate::error::bail!(
            declaration,
            "{} has {found} tensors, but its layout {expected}",
            T::NAME
        );
    }
    let Some((param, first)) = layout.params().iter().zip(&tensors).next() else {
        crate::error::bail!(
            declaration,
            "target {} has no parameters, so there is nothing to pack",
            T::NAME
        );
    };
    for (other, tensor) in layout.params().iter().zip(&tensors) {
        ensure_same_device(
            (&format!("`{}` of {}", other.name, T::NAME), tensor.device().location()),
            (&format!("`{}`", param.name), first.device().location()),
        )?;
        if tensor.dtype() != first.dtype() {
            let (found, expected) = (tensor.dtype(), first.dtype());
            crate::error::bail!(
                dtype,
                "`{}` of {} is {found:?}, but `{}` {expected:?}",
                other.name,
                T::NAME,
                param.name
            );
        }
    }
    let sets = (first.rank() > param.shape.rank()).then(|| first.dim(0)).transpose()?;
    flatten(&tensors, sets)
}
