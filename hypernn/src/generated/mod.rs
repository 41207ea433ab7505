//! Generated parameters: the flat vector a hypernetwork made, cut into the target's tensors.

mod buffers;
pub(crate) mod scale;

use std::sync::Arc;

pub use buffers::Buffers;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Module, ModuleT, Result, Tensor};
use candle_nn::VarBuilder;

use crate::check::ensure_same_device;
use crate::generator::GeneratorOutput;
use crate::nn::rows_per_set;
use crate::ops::split::{Cuts, Sink, Watch, split, unstack};
use crate::pretrained::{Pretrained, Starts};
use crate::target::HyperTarget;
use crate::target::adapter::Adapter;
use crate::target::constructor::Requests;
use crate::target::layout::{Layout, ParamInfo, Place};
use crate::target::role::{Role, Roles};
use crate::target::source::{ParamSource, ParamSpec, Served};
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
    build: Box<Build<T>>,
}

type Build<T> = dyn Fn(&mut dyn ParamSource) -> Result<T> + Send + Sync;

impl<T: HyperTarget> TargetPlan<T> {
    /// The plan for a configuration.
    ///
    /// # Errors
    /// An invalid size, or two tensors of one name.
    pub fn new(config: &T::Config) -> Result<Self> {
        let config = config.clone();
        Self::record(T::NAME, move |source| T::build(&config, source))
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
        constructor: impl Fn(VarBuilder<'_>) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        let requests = Requests::record(&constructor)?;
        Self::record(type_name::<T>(), move |source| requests.build(source, &constructor))
    }

    fn record(
        name: &'static str,
        build: impl Fn(&mut dyn ParamSource) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        let layout = Layout::record(Roles::default(), |source| build(source).map(drop))?;
        layout.ensure_parameters(name)?;
        Ok(Self { name, layout, starts: Starts::default(), build: Box::new(build) })
    }

    /// The same target with other roles for the tensors that a pattern matches, and no pretrained
    /// network; see [`role`](crate::target::role).
    ///
    /// # Errors
    /// A pattern that decides nothing, shared tensors of different shapes, or nothing to generate.
    pub fn with_roles(self, roles: &[(&str, Role)]) -> Result<Self> {
        let layout = Layout::record(Roles::new(roles), |source| (self.build)(source).map(drop))?;
        layout.ensure_parameters(self.name)?;
        Ok(Self { layout, starts: Starts::default(), ..self })
    }

    /// The same target, with the roles that it has, starting from a pretrained network in this dtype,
    /// on this device.
    ///
    /// # Errors
    /// The network lacks a tensor, or has one of another shape.
    pub fn with_pretrained<'a>(
        self,
        pretrained: impl Into<Pretrained<'a>>,
        (dtype, device): (DType, &Device),
    ) -> Result<Self> {
        let starts = pretrained.into().starts(&self.layout, dtype, device)?;
        Ok(Self { starts, ..self })
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

    /// Every tensor of the target by its name: generated, kept and buffers.
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
            None => (self.plan.build)(&mut GeneratedSource::new(self, train)),
        }
    }

    /// The number of sets and the layer that makes them take their turns, where one does.
    fn sets_in_turn(&self) -> Option<(usize, &str)> {
        self.sets.zip(self.plan.layout.one_set_layer())
    }

    /// Applies the target; the input's rows are shared out among the sets.
    ///
    /// # Errors
    /// Rows that are not a multiple of the number of sets, or the target's own.
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
            return forward(&self.unpack_t(train)?, xs);
        };
        let rows = rows_per_set(self.plan.name, xs.dim(0)?, sets)?;
        let outputs = self.each_set(sets)?.into_iter().enumerate().map(|(set, params)| {
            forward(&params.unpack_t(train)?, &xs.narrow(0, set * rows, rows)?.contiguous()?)
        });
        Tensor::cat(&outputs.collect::<Result<Vec<_>>>()?, 0)
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
