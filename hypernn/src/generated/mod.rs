//! Generated parameters: the flat vector a hypernetwork made, cut into the target's tensors.

pub(crate) mod scale;

use std::sync::Arc;

use candle_core::{DType, Device, Module, ModuleT, Result, Tensor};

use crate::check::ensure_same_device;
use crate::generator::GeneratorOutput;
use crate::nn::rows_per_set;
use crate::ops::split::{Cuts, Sink, split, unstack};
use crate::target::HyperTarget;
use crate::target::layout::{Layout, ParamInfo};
use crate::target::source::{ParamSource, ParamSpec};
use scale::Scales;

/// A target with its configuration and layout, shared by all that is generated for it.
///
/// Nothing but [`new`](Self::new) asks for a target, so that a type that is none is one error.
pub struct TargetPlan<T> {
    pub(crate) name: &'static str,
    pub(crate) layout: Layout,
    build: Box<Build<T>>,
}

type Build<T> = dyn Fn(&mut dyn ParamSource) -> Result<T> + Send + Sync;

impl<T: HyperTarget> TargetPlan<T> {
    /// The plan for a configuration.
    ///
    /// # Errors
    /// An invalid size, or two tensors of one name.
    pub fn new(config: &T::Config) -> Result<Self> {
        let (layout, config) = (T::layout_with(config)?, config.clone());
        let build = Box::new(move |source: &mut dyn ParamSource| T::build(&config, source));
        Ok(Self { name: T::NAME, layout, build })
    }
}

impl<T> TargetPlan<T> {
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
pub struct GeneratedParams<T> {
    plan: Arc<TargetPlan<T>>,
    sets: Option<usize>,
    /// The target's tensors in flat order, `[dims…]` or `[G, dims…]`.
    tensors: Vec<Tensor>,
    /// A shorter way for the gradient of each; none where no gradient flows back.
    sinks: Vec<Sink>,
    buffers: Arc<[Tensor]>,
}

impl<T> Clone for GeneratedParams<T> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            sets: self.sets,
            tensors: self.tensors.clone(),
            sinks: self.sinks.clone(),
            buffers: self.buffers.clone(),
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
        Self::from_generated(Arc::new(plan), &flat.clone().into(), sets, &scales, Arc::new([]))
    }
}

impl<T> GeneratedParams<T> {
    /// Cuts what a generator gave, `[N, C]` or `[G, N, C]`, surplus included.
    pub(crate) fn from_generated(
        plan: Arc<TargetPlan<T>>,
        generated: &GeneratorOutput,
        sets: Option<usize>,
        scales: &Scales,
        buffers: Arc<[Tensor]>,
    ) -> Result<Self> {
        let Cuts { tensors, sinks } = split(generated, sets, scales.pattern())?;
        Ok(Self { plan, sets, tensors: scales.add_bases(tensors)?, sinks, buffers })
    }

    /// The tensors, each with a gradient that costs no more than the tensor.
    fn tracked(&self) -> impl Iterator<Item = Result<Tensor>> {
        let tensors = self.tensors.iter().enumerate();
        tensors.map(|(index, tensor)| tracked(tensor, self.sinks.get(index)))
    }

    /// The number of sets; `None` where one set serves every row.
    pub fn num_sets(&self) -> Option<usize> {
        self.sets
    }

    /// Which tensor lies where in the flat vector.
    pub fn layout(&self) -> &Layout {
        &self.plan.layout
    }

    /// The target's tensors with their places in the layout, in flat order; each of shape `[dims…]`,
    /// or `[G, dims…]` for `G` sets.
    pub fn tensors(&self) -> impl Iterator<Item = (&ParamInfo, &Tensor)> {
        self.plan.layout.params().iter().zip(&self.tensors)
    }

    /// The flat vector, `[P]` or `[G, P]`.
    ///
    /// # Errors
    /// candle's own.
    pub fn flat(&self) -> Result<Tensor> {
        flatten(&self.tracked().collect::<Result<Vec<_>>>()?, self.sets)
    }

    /// One of several sets, by itself.
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
        Ok(Self { sets: None, tensors, sinks: Vec::new(), ..self.clone() })
    }

    /// An ordinary target over the generated tensors; gradients flow through it.
    ///
    /// # Errors
    /// Several sets of a target whose layers take one at a time, or the target's own.
    pub fn unpack(&self) -> Result<T> {
        match self.sets_in_turn() {
            Some((1, _)) => self.set(0)?.unpack(),
            Some((sets, layer)) => candle_core::bail!(
                "layer `{layer}` of {} computes with one set of weights at a time, but these are {sets}: unpack `params.set(i)?` for each, or take the layer from `hypernn::nn`",
                self.plan.name
            ),
            None => (self.plan.build)(&mut GeneratedSource::new(self)),
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
        self.apply(xs, |target, xs| target.forward(xs))
    }

    /// At once where all layers take sets, else one set after the other.
    fn apply(
        &self,
        xs: &Tensor,
        forward: impl Fn(&T, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        ensure_same_device(
            ("the input", xs.device().location()),
            ("the generated parameters", self.device().location()),
        )?;
        let Some((sets, _)) = self.sets_in_turn() else { return forward(&self.unpack()?, xs) };
        let rows = rows_per_set(self.plan.name, xs.dim(0)?, sets)?;
        let outputs = self.each_set(sets)?.into_iter().enumerate().map(|(set, params)| {
            forward(&params.unpack()?, &xs.narrow(0, set * rows, rows)?.contiguous()?)
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
        self.apply(xs, |target, xs| target.forward_t(xs, train))
    }

    /// The same values, cut off from the hypernetwork: no gradient flows back.
    pub fn detach(&self) -> Self {
        let tensors = self.tensors.iter().map(Tensor::detach).collect();
        Self { tensors, sinks: Vec::new(), ..self.clone() }
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

/// Serves generated tensors in flat order.
struct GeneratedSource<'a> {
    params: std::slice::Iter<'a, Tensor>,
    sinks: std::slice::Iter<'a, Sink>,
    buffers: std::slice::Iter<'a, Tensor>,
    sets: Option<usize>,
    like: &'a Tensor,
}

impl<'a> GeneratedSource<'a> {
    fn new<T>(params: &'a GeneratedParams<T>) -> Self {
        Self {
            params: params.tensors.iter(),
            sinks: params.sinks.iter(),
            buffers: params.buffers.iter(),
            sets: params.sets,
            like: &params.tensors[0],
        }
    }

    fn checked(
        &self,
        spec: &ParamSpec<'_>,
        tensor: &Tensor,
        sets: Option<usize>,
    ) -> Result<Tensor> {
        let skip = usize::from(sets.is_some());
        if tensor.dims().get(skip..) != Some(spec.dims) {
            candle_core::bail!(
                "`{}` of shape {:?} was asked for, but the layout has shape {:?} there: the target's sizes changed after its layout was taken",
                spec.name,
                spec.dims,
                tensor.dims()
            );
        }
        Ok(tensor.clone())
    }
}

impl ParamSource for GeneratedSource<'_> {
    fn enter(&mut self, _name: &str) {}

    fn leave(&mut self) {}

    fn param(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        let (tensor, sink) = self.param_with_sink(spec)?;
        tracked(&tensor, sink.as_ref())
    }

    fn param_with_sink(&mut self, spec: &ParamSpec<'_>) -> Result<(Tensor, Option<Sink>)> {
        let sink = self.sinks.next().cloned();
        match self.params.next() {
            Some(tensor) => Ok((self.checked(spec, tensor, self.sets)?, sink)),
            None => candle_core::bail!(
                "`{}` was asked for, but the layout has no more parameters",
                spec.name
            ),
        }
    }

    /// Buffers start afresh where the hypernetwork keeps none.
    fn buffer(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        match self.buffers.next() {
            Some(tensor) => self.checked(spec, tensor, None),
            None => {
                let var = spec.init.var(spec.dims, self.like.dtype(), self.like.device())?;
                Ok(var.into_inner())
            }
        }
    }
}

/// A tensor for all that knows no sinks.
fn tracked(tensor: &Tensor, sink: Option<&Sink>) -> Result<Tensor> {
    sink.map_or_else(|| Ok(tensor.clone()), |sink| sink.tracked(tensor))
}

/// The flat vector of tensors `[dims…]`, or of `[G, dims…]`.
fn flatten(tensors: &[Tensor], sets: Option<usize>) -> Result<Tensor> {
    let rows = tensors.iter().map(|tensor| match sets {
        None => tensor.flatten_all(),
        Some(sets) => tensor.reshape((sets, ())),
    });
    Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, candle_core::D::Minus1)
}

/// The parameters of a network as one flat vector.
pub(crate) fn pack<T: HyperTarget>(net: &T, layout: &Layout) -> Result<Tensor> {
    let mut tensors = Vec::with_capacity(layout.params().len());
    net.visit(&mut |_name, tensor| {
        tensors.push(tensor.clone());
        Ok(())
    })?;
    let expected = layout.params().len();
    if tensors.len() != expected {
        candle_core::bail!("{} has {} tensors, but its layout {expected}", T::NAME, tensors.len());
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
