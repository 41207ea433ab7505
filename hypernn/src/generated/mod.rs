//! Generated parameters: the flat vector a hypernetwork made, cut into the target's tensors.

mod buffers;
pub(crate) mod scale;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use buffers::Buffers;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Module, ModuleT, Result, Tensor};
use candle_nn::VarBuilder;

use crate::check::ensure_same_device;
use crate::generator::GeneratorOutput;
use crate::nn::{internal, rows_per_set};
use crate::ops::split::{Cuts, Sink, Watch, split, unstack};
use crate::pretrained::{Pretrained, Starts};
use crate::target::HyperTarget;
use crate::target::adapter::Adapter;
use crate::target::constructor::Requests;
use crate::target::layout::{Layout, ParamInfo, Place};
use crate::target::role::{Role, Roles};
use crate::target::source::{BufferDtype, ParamSource, ParamSpec, Served};
use crate::trace::span;
use scale::Scales;

/// A target with its configuration and layout, shared by all that is generated for it.
///
/// Nothing but [`new`](Self::new) asks for a [`HyperTarget`], so that a type that is none is one
/// error.
pub struct TargetPlan<T> {
    pub(crate) name: &'static str,
    pub(crate) layout: Layout,
    pub(crate) starts: Starts,
    roles: Vec<(String, Role)>,
    model: Model<T>,
}

/// How a target is built.
enum Model<T> {
    Declared(Box<Build<T>>),
    /// By the constructor, which was run for its requests: over a pretrained network, or over none.
    Constructed {
        constructor: Box<Constructor<T>>,
        requests: Requests,
        over_pretrained: bool,
        /// Whether outputs have shown that it builds the same model each time.
        is_same: AtomicBool,
    },
}

type Build<T> = dyn Fn(&mut dyn ParamSource) -> Result<T> + Send + Sync;

type Constructor<T> = dyn Fn(VarBuilder<'static>) -> Result<T> + Send + Sync;

impl<T> Model<T> {
    fn build(&self, source: &mut dyn ParamSource) -> Result<T> {
        match self {
            Self::Declared(build) => build(source),
            Self::Constructed { constructor, requests, .. } => requests.build(source, constructor),
        }
    }

    fn layout(&self, roles: &[(String, Role)]) -> Result<Layout> {
        let roles = Roles::new(roles);
        match self {
            Self::Declared(build) => Layout::record(roles, |source| build(source).map(drop)),
            Self::Constructed { requests, .. } => {
                let layout = Layout::record(roles, |source| requests.serve(source).map(drop))?;
                Ok(layout.with_absent(requests.absent()))
            }
        }
    }

    /// Where it is noted that the model is the same each time, if that is to be seen.
    fn same(&self) -> Option<&AtomicBool> {
        match self {
            Self::Declared(_) => None,
            Self::Constructed { is_same, .. } => Some(is_same),
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
        let config = config.clone();
        let build: Box<Build<T>> = Box::new(move |source| T::build(&config, source));
        Self::of(T::NAME, Model::Declared(build))
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
        Self::of(type_name::<T>(), model)
    }

    fn of(name: &'static str, model: Model<T>) -> Result<Self> {
        let layout = model.layout(&[])?;
        layout.ensure_parameters(name)?;
        Ok(Self { name, layout, starts: Starts::default(), roles: Vec::new(), model })
    }

    /// The same target with other roles for the tensors that a pattern matches, and no pretrained
    /// network; see [`role`](crate::target::role).
    ///
    /// # Errors
    /// A pattern that decides nothing, shared tensors of different shapes, or nothing to generate.
    pub fn with_roles(self, roles: &[(&str, Role)]) -> Result<Self> {
        let roles: Vec<_> = roles.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect();
        let layout = self.model.layout(&roles)?;
        layout.ensure_parameters(self.name)?;
        Ok(Self { layout, starts: Starts::default(), roles, ..self })
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
        let layout = model.layout(&self.roles)?;
        layout.ensure_parameters(self.name)?;
        let starts = pretrained.starts(&layout, dtype, device)?;
        Ok(Self { layout, starts, model, ..self })
    }

    /// The name and tensor of what is neither generated nor kept, but a part of the model: integers of
    /// a pretrained network, and tensors without values.
    pub(crate) fn constants(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let requests = match &self.model {
            Model::Declared(_) => None,
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

/// The name of a type without the path to it.
fn type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let path = name.split('<').next().unwrap_or(name);
    let start = path.rfind("::").map_or(0, |at| at + 2);
    &name[start..]
}

/// The parameters of a target `T`, as a hypernetwork generated them: one set, or one per row or
/// task.
///
/// Generated once, they serve any number of forward passes, and their gradient reaches the
/// hypernetwork's variables through each.
pub struct GeneratedParams<T> {
    plan: Arc<TargetPlan<T>>,
    sets: Option<usize>,
    /// The target's tensors in flat order, `[dims…]` or `[G, dims…]`.
    tensors: Vec<Tensor>,
    /// A shorter way for the gradient of each, where there is one.
    sinks: Vec<Option<Sink>>,
    /// Sees the gradient of each, where gradients flow back.
    watch: Option<Watch>,
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
}

impl Kept {
    /// Those of one set.
    fn set(&self, index: usize) -> Result<Self> {
        if self.buffer_sets.is_none() {
            return Ok(self.clone());
        }
        let buffers = self.buffers.iter().map(|buffer| buffer.detach().get(index)?.copy());
        let buffers = buffers.collect::<Result<_>>()?;
        Ok(Self { buffers, buffer_sets: None, ..self.clone() })
    }
}

impl<T> Clone for GeneratedParams<T> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            sets: self.sets,
            tensors: self.tensors.clone(),
            sinks: self.sinks.clone(),
            watch: self.watch.clone(),
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
        let plan = TargetPlan::new(config)?;
        let sets = check_flat(&plan, flat)?;
        let scales = Scales::identity(&plan.layout);
        Self::from_generated(Arc::new(plan), &flat.clone().into(), sets, &scales, Kept::default())
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
        Ok(Self { plan, sets, tensors, sinks, watch, kept })
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
        Ok(named)
    }

    /// The flat vector, `[P]` or `[G, P]`.
    ///
    /// # Errors
    /// candle's own.
    pub fn flat(&self) -> Result<Tensor> {
        flatten(&self.tracked().collect::<Result<Vec<_>>>()?, self.sets)
    }

    /// One of several sets, by itself. Where each set has running statistics of its own, it has a copy
    /// of them.
    ///
    /// # Errors
    /// There is no such set.
    pub fn set(&self, index: usize) -> Result<Self> {
        match self.sets {
            Some(sets) if index < sets => {}
            Some(sets) => candle_core::bail!("there is no set {index}, expected one of {sets}"),
            None => candle_core::bail!("there is no set {index}: one set serves every row"),
        }
        let tensors = self.tracked().map(|tensor| tensor?.get(index)?.contiguous());
        let tensors = tensors.collect::<Result<_>>()?;
        let kept = self.kept.set(index)?;
        Ok(Self { sets: None, tensors, kept, sinks: Vec::new(), ..self.clone() })
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
        match self.sets_in_turn() {
            Some((1, _)) => self.set(0)?.unpack_t(train),
            Some((sets, "")) => candle_core::bail!(
                "{} is built by its constructor, for one set of weights at a time, but these are {sets}: unpack `params.set(i)?` for each",
                self.plan.name
            ),
            Some((sets, layer)) => candle_core::bail!(
                "layer `{layer}` of {} computes with one set of weights at a time, but these are {sets}: unpack `params.set(i)?` for each, or take the layer from `hypernn::nn`",
                self.plan.name
            ),
            None => self.plan.model.build(&mut GeneratedSource::new(self, train)),
        }
    }

    /// The number of sets and the layer that makes them take their turns, where one does.
    fn sets_in_turn(&self) -> Option<(usize, &str)> {
        self.sets.zip(self.plan.layout.one_set_layer())
    }

    /// Applies the target; the input's rows are shared out among the sets.
    ///
    /// # Errors
    /// Rows that are not a multiple of the number of sets, or the target's own. At the first forward of a
    /// target by constructor also a constructor that draws values by itself, others for each model.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor>
    where
        T: Module,
    {
        self.apply(xs, false, |target, xs| target.forward(xs))
    }

    /// At once where all layers take sets, else one set after the other.
    fn apply(
        &self,
        xs: &Tensor,
        train: bool,
        forward: impl Fn(&T, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        span!("forward", self.plan.name);
        ensure_same_device(
            ("the input", xs.device().location()),
            ("the generated parameters", self.device().location()),
        )?;
        let Some((sets, _)) = self.sets_in_turn() else {
            return self.apply_one(xs, train, forward);
        };
        let rows = rows_per_set(self.plan.name, xs.dim(0)?, sets)?;
        let outputs = self.each_set(sets)?.into_iter().enumerate().map(|(set, params)| {
            params.apply_one(&xs.narrow(0, set * rows, rows)?.contiguous()?, train, &forward)
        });
        Tensor::cat(&outputs.collect::<Result<Vec<_>>>()?, 0)
    }

    fn apply_one(
        &self,
        xs: &Tensor,
        train: bool,
        forward: impl Fn(&T, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let ys = forward(&self.unpack_t(train)?, xs)?;
        if !train {
            self.ensure_same_model((xs, &ys), forward)?;
        }
        Ok(ys)
    }

    /// With its first outputs, whether a constructor builds the same model each time, and draws nothing
    /// at random by itself. A forward that does so says nothing about that.
    fn ensure_same_model(
        &self,
        (xs, ys): (&Tensor, &Tensor),
        forward: impl Fn(&T, &Tensor) -> Result<Tensor>,
    ) -> Result<()> {
        let same = self.plan.model.same().filter(|same| !same.load(Ordering::Relaxed));
        let Some(same) = same else { return Ok(()) };
        let mut params = self.detach();
        params.kept.buffers =
            params.kept.buffers.iter().map(Tensor::copy).collect::<Result<_>>()?;
        let again = params.unpack()?;
        let other = forward(&again, xs)?;
        let difference = difference(ys, &other)?;
        if difference <= NOTHING || self::difference(&other, &forward(&again, xs)?)? > NOTHING {
            same.store(true, Ordering::Relaxed);
            return Ok(());
        }
        candle_core::bail!(
            "the constructor of {} draws values by itself, others each time that a model is built: outputs of the same parameters differ by {:.1} %; draw them once, outside of the constructor, or ask the builder for them (`layout().absent()` has the names that it looked for in vain)",
            self.plan.name,
            100. * difference
        )
    }

    fn each_set(&self, sets: usize) -> Result<Vec<Self>> {
        let mut each =
            vec![Self { sets: None, tensors: Vec::new(), sinks: Vec::new(), ..self.clone() }; sets];
        for tensor in self.tracked() {
            for (params, tensor) in each.iter_mut().zip(unstack(&tensor?)?) {
                params.tensors.push(tensor);
            }
        }
        Ok(each)
    }

    /// As [`forward`](Self::forward), for a target that behaves otherwise in training.
    ///
    /// # Errors
    /// As there.
    pub fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor>
    where
        T: ModuleT,
    {
        self.apply(xs, train, |target, xs| target.forward_t(xs, train))
    }

    /// The same values, cut off from the hypernetwork: no gradient flows back.
    pub fn detach(&self) -> Self {
        let tensors = self.tensors.iter().map(Tensor::detach).collect();
        let params = self.kept.params.iter().map(Tensor::detach).collect();
        let kept = Kept { params, ..self.kept.clone() };
        Self { tensors, kept, sinks: Vec::new(), watch: None, ..self.clone() }
    }

    /// The gradients of a loss, and what each generated tensor got of them.
    pub(crate) fn backward(&self, loss: &Tensor) -> Result<(GradStore, Vec<Option<Tensor>>)> {
        match &self.watch {
            Some(watch) => watch.pass(|| loss.backward()),
            None => Ok((loss.backward()?, vec![None; self.tensors.len()])),
        }
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
        for (param, tensor) in self.tensors() {
            let values = tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            let bad = values.iter().filter(|value| !value.is_finite()).count();
            if let Some(first) = values.iter().position(|value| !value.is_finite()) {
                candle_core::bail!(
                    "generated parameter `{}` of {}: {bad} of {} values are not finite, the first at index {first} is {}",
                    param.name,
                    self.plan.name,
                    values.len(),
                    values[first]
                );
            }
        }
        Ok(())
    }
}

/// The number of sets in a flat vector, after its shape and dtype have been checked.
fn check_flat<T>(plan: &TargetPlan<T>, flat: &Tensor) -> Result<Option<usize>> {
    let TargetPlan { name, layout, .. } = plan;
    let expected = layout.num_params();
    let (sets, found) = match *flat.dims() {
        [found] => (None, found),
        [0, _] => candle_core::bail!(
            "the flat vector of {} has shape {:?}, expected at least one set",
            name,
            flat.dims()
        ),
        [sets, found] => (Some(sets), found),
        _ => candle_core::bail!(
            "the flat vector of {} has shape {:?}, expected [{expected}], or [G, {expected}] for G sets",
            name,
            flat.dims()
        ),
    };
    if !flat.dtype().is_float() {
        candle_core::bail!(
            "the flat vector of {} has dtype {:?}, expected a floating dtype",
            name,
            flat.dtype()
        );
    }
    if found < expected {
        let starved = layout.param_at(found).map_or("", |param| param.name.as_str());
        candle_core::bail!(
            "the flat vector of {} has {found} values, expected {expected}: `{starved}` runs out of values",
            name
        );
    }
    if found > expected {
        candle_core::bail!(
            "the flat vector of {} has {found} values, expected {expected}: the last {} feed no parameter",
            name,
            found - expected
        );
    }
    Ok(sets)
}

/// How far outputs of one model may differ, for the order of sums.
const NOTHING: f64 = 1e-3;

/// The largest difference of two outputs, as a part of the largest output; none where they are not
/// comparable.
fn difference(ys: &Tensor, others: &Tensor) -> Result<f64> {
    if ys.dims() != others.dims() || !ys.dtype().is_float() || ys.elem_count() == 0 {
        return Ok(0.);
    }
    let largest = |of: &Tensor| of.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar::<f64>();
    let ys = ys.detach();
    let difference = largest(&(&ys - others)?)? / largest(&ys)?;
    Ok(if difference.is_nan() { 0. } else { difference })
}

/// Serves tensors in the order of the layout.
struct GeneratedSource<'a> {
    places: std::slice::Iter<'a, (String, Place)>,
    generated: &'a [Tensor],
    sinks: &'a [Option<Sink>],
    kept: &'a [Tensor],
    buffers: std::slice::Iter<'a, Tensor>,
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
        Adapter { down: factor(down), up: factor(down + 1), scale, dropout }
    }

    /// A tensor that the hypernetwork keeps, in the dtype of those that it generates.
    fn kept(&self, name: &str, index: usize) -> Result<Tensor> {
        let Some(tensor) = self.kept.get(index) else {
            candle_core::bail!(
                "`{name}` is not generated: a hypernetwork keeps it, and a flat vector does not hold it"
            )
        };
        self.generated.first().map_or(Ok(tensor.clone()), |like| tensor.to_dtype(like.dtype()))
    }

    fn check(&self, spec: &ParamSpec<'_>, tensor: &Tensor, sets: Option<usize>) -> Result<()> {
        let skip = usize::from(sets.is_some());
        if tensor.dims().get(skip..) != Some(spec.dims) {
            candle_core::bail!(
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
            candle_core::bail!(
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
    Served { tensor: tensors[index].clone(), sink: sinks.get(index).cloned().flatten() }
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
        candle_core::bail!("{} has {found} tensors, but its layout {expected}", T::NAME);
    }
    let Some((param, first)) = layout.params().iter().zip(&tensors).next() else {
        candle_core::bail!("target {} has no parameters, so there is nothing to pack", T::NAME);
    };
    for (other, tensor) in layout.params().iter().zip(&tensors) {
        ensure_same_device(
            (&format!("`{}` of {}", other.name, T::NAME), tensor.device().location()),
            (&format!("`{}`", param.name), first.device().location()),
        )?;
    }
    let sets = (first.rank() > param.shape.rank()).then(|| first.dim(0)).transpose()?;
    flatten(&tensors, sets)
}
