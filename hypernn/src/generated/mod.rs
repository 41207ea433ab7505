//! Generated parameters: the flat vector a hypernetwork made, cut into the target's tensors.
//!
//! [`GeneratedParams`] serve any number of forward passes, are an ordinary target by `unpack`, and go to a file by `save`.
//!
//! ```
//! use candle_core::{DType, Device, Result, Tensor};
//! use hypernn::nn::{Linear, VarBuilder, VarMap};
//! use hypernn::{GeneratedParams, HyperTarget, hypernetwork};
//!
//! #[derive(HyperTarget)]
//! #[hyper(sequential)]
//! struct Net {
//!     #[hyper(linear(4, 2))]
//!     fc: Linear,
//! }
//!
//! hypernetwork! { struct PerTask for Net { embedding: tasks(3, 5, 3), generator: linear, mode: dynamic } }
//!
//! # fn main() -> Result<()> {
//! let hyper = PerTask::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
//! // Two sets of weights: tensors are `[2, …]`, and the rows of an input are shared out among them.
//! let params = hyper.generate_params(&Tensor::new(&[2u32, 0], &Device::Cpu)?)?;
//! let shapes: Vec<_> = params.tensors().map(|(info, tensor)| (&info.name[..], tensor.dims())).collect();
//! assert_eq!(shapes, [("fc.weight", &[2, 2, 4][..]), ("fc.bias", &[2, 2][..])]);
//! let xs = Tensor::ones((6, 4), DType::F32, &Device::Cpu)?;
//! assert_eq!(params.forward(&xs)?.dims(), [6, 2]);
//! // Sets are taken apart and put together.
//! let swapped = GeneratedParams::stack(&[params.set(1)?, params.set(0)?])?;
//! assert_eq!(swapped.num_sets(), Some(2));
//! # Ok(())
//! # }
//! ```

mod buffers;
mod combine;
mod flat;
mod forward;
mod micro_batches;
mod other_values;
mod plan;
mod pull;
mod same_model;
pub(crate) mod scale;
mod seen_forwards;
mod select_sets;
mod source;
pub(crate) mod stack;
mod streamed;

use std::sync::{Arc, OnceLock};

pub use buffers::Buffers;
use candle_core::backprop::GradStore;
use candle_core::{Device, Module, Result, Tensor};
pub(crate) use flat::{FlatRecord, flatten};
pub use micro_batches::MicroBatches;
pub(crate) use plan::DeclaredTarget;
use plan::Model;
pub use plan::TargetPlan;
use scale::Scales;
use source::GeneratedSource;
pub use streamed::StreamedParams;

use crate::finite::ensure_finite;
use crate::generator::GeneratorOutput;
use crate::ops::split::{Unstack, Watch, split};
use crate::param::{KeptTensor, Param};
use crate::structure::layout::{Layout, ParamInfo};
use crate::structure::value::Values;
use crate::structure::{ForwardTarget, ForwardTargetT, Outputs};

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
    /// The plan's layout with other ranks, of adapters that were put together.
    ranked: Option<Arc<Layout>>,
    sets: Option<usize>,
    /// The target's generated parameters in flat order, `[dims…]` or `[G, dims…]`.
    params: Vec<Param>,
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
    pub(crate) params: Arc<[KeptTensor]>,
    /// Running statistics.
    pub(crate) buffers: Arc<[Tensor]>,
    /// How many sets of running statistics there are; none where all weight sets share one.
    pub(crate) buffer_sets: Option<usize>,
    /// Tensors of fields without parameters.
    pub(crate) values: Arc<[Tensor]>,
    /// A hash of each frozen tensor, once it was asked for: these never change.
    pub(crate) hashes: Arc<OnceLock<Vec<String>>>,
}

impl Kept {
    /// Nothing but what fields without parameters hold.
    fn of(values: &Values) -> Self {
        Self { values: values.tensors.clone().into(), ..Self::default() }
    }

    fn detach(&self) -> Self {
        Self { params: self.params.iter().map(KeptTensor::detach).collect(), ..self.clone() }
    }
}

impl<T> Clone for GeneratedParams<T> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            ranked: self.ranked.clone(),
            sets: self.sets,
            params: self.params.clone(),
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
            .field("parameters", &self.layout().num_params())
            .finish()
    }
}

/// Where the target is a `Module`. Its `forward_t` is the one below: that of candle's `ModuleT`, which every
/// `Module` is, knows nothing of training.
impl<T: Module> Module for GeneratedParams<T> {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        Self::forward(self, xs)
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
        let split = split(&generated.rows, sets, scales.plan())?;
        let params = scales.with_bases(split.params)?;
        Ok(Self::of_params(plan, params, sets, kept).watched_by(split.watch))
    }

    /// Parameters in the order of the layout.
    fn of_params(
        plan: Arc<TargetPlan<T>>,
        params: Vec<Param>,
        sets: Option<usize>,
        kept: Kept,
    ) -> Self {
        let (watches, by_set) = (Arc::default(), Arc::default());
        Self { plan, ranked: None, sets, params, watches, by_set, kept }
    }

    fn watched_by(self, watch: Option<Watch>) -> Self {
        Self { watches: watch.into_iter().collect(), ..self }
    }

    /// Tensors that were generated before, `[dims…]` or `[G, dims…]`, in the order of the layout.
    pub(crate) fn from_tensors(
        plan: Arc<TargetPlan<T>>,
        tensors: Vec<Tensor>,
        sets: Option<usize>,
        kept: Kept,
    ) -> Self {
        Self::of_params(plan, tensors.into_iter().map(Param::from).collect(), sets, kept)
    }

    /// Other tensors made of these.
    fn with_tensors(&self, tensors: Vec<Tensor>, sets: Option<usize>, kept: Kept) -> Self {
        let made = Self::from_tensors(self.plan.clone(), tensors, sets, kept);
        Self { watches: self.watches.clone(), ranked: self.ranked.clone(), ..made }
    }

    /// The tensors, each with a gradient that costs no more than the tensor.
    fn collected(&self) -> impl Iterator<Item = Result<Tensor>> {
        self.params.iter().map(Param::collected)
    }

    /// The number of sets; `None` where one set serves every row.
    pub fn num_sets(&self) -> Option<usize> {
        self.sets
    }

    /// Which tensor lies where in the flat vector.
    pub fn layout(&self) -> &Layout {
        self.ranked.as_deref().unwrap_or(&self.plan.layout)
    }

    /// The generated tensors with their places in the layout, in flat order; each of shape `[dims…]`,
    /// or `[G, dims…]` for `G` sets.
    pub fn tensors(&self) -> impl Iterator<Item = (&ParamInfo, &Tensor)> {
        self.layout().params().iter().zip(self.params.iter().map(Param::visited))
    }

    pub(crate) fn plan(&self) -> &TargetPlan<T> {
        &self.plan
    }

    /// Whether these are adapters that were put together, of other ranks than those of the network.
    pub(crate) fn is_of_other_ranks(&self) -> bool {
        self.ranked.is_some()
    }

    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Every tensor of the target by its name: generated, kept, buffers and constants.
    pub(crate) fn named(&self) -> Result<Vec<(String, Tensor)>> {
        let source = GeneratedSource::new(self, false);
        let params = self
            .layout()
            .places()
            .iter()
            .map(|(name, place)| Ok((name.clone(), source.find(name, *place)?.merged()?)));
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
        flatten(&self.collected().collect::<Result<Vec<_>>>()?, self.sets)
    }

    /// An ordinary target over the generated tensors; gradients flow through it.
    ///
    /// # Errors
    /// Several sets of a target whose layers take one at a time, or the target's own.
    pub fn unpack(&self) -> Result<T> {
        self.unpack_t(false)
    }

    /// An ordinary target over the generated tensors, in training or not: in training, low-rank
    /// [adapters](crate::structure::adapter) drop a part of their inputs, where they have a dropout.
    ///
    /// # Errors
    /// Several sets of a target whose layers take one at a time, or the target's own.
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
    /// each set by itself: a tensor, or a tuple of them of a target with several outputs.
    ///
    /// All sets go through the target at once where its layers take several sets, and one after the
    /// other elsewhere: with a layer of `candle_nn`, with a bare tensor that is generated, and where the
    /// target's own forward asks a layer for its weights, `self.embed.embeddings()` say, since these
    /// are then `[G, …]`.
    ///
    /// # Errors
    /// Rows that are not a multiple of the number of sets, or the target's own. At the first forward of a
    /// target by constructor also a constructor that draws values by itself, others for each model; likewise a
    /// [field](crate::structure::value) that is made anew in each build, and is another each time.
    pub fn forward<O: Outputs>(&self, xs: &Tensor) -> Result<O>
    where
        T: ForwardTarget<Output = O>,
    {
        let outputs = self.apply(xs, false, |target, xs| target.outputs(xs));
        outputs.map_err(|err| self.with_dtypes(err, xs))
    }

    /// Applies a target that behaves otherwise in training; the rows are shared out as by [`forward`](Self::forward).
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn forward_t<O: Outputs>(&self, xs: &Tensor, train: bool) -> Result<O>
    where
        T: ForwardTargetT<Output = O>,
    {
        let outputs = self.apply(xs, train, |target, xs| target.outputs_t(xs, train));
        outputs.map_err(|err| self.with_dtypes(err, xs))
    }

    /// These parameters, cut off from the hypernetwork: no gradient flows back, and nothing of the
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
        let params = self.params.iter().map(Param::detached).collect();
        let detached = Self::of_params(self.plan.clone(), params, self.sets, self.kept.detach());
        Self { ranked: self.ranked.clone(), ..detached }
    }

    /// The gradients of a loss, and what each generated tensor got of them, `[dims…]` or
    /// `[G, dims…]`.
    pub(crate) fn backward(&self, loss: &Tensor) -> Result<(GradStore, Vec<Option<Tensor>>)> {
        let mut delivered = Vec::with_capacity(self.watches.len());
        let grads = watched(&self.watches, loss, &mut delivered)?;
        let grad =
            |index: usize| self.grad(delivered.iter().rev().map(|grads| &grads[index]), index);
        Ok((grads, (0..self.params.len()).map(grad).collect::<Result<_>>()?))
    }

    /// The gradient of a tensor that was put together from those that several splits gave.
    fn grad<'a>(
        &self,
        delivered: impl Iterator<Item = &'a Option<Tensor>>,
        index: usize,
    ) -> Result<Option<Tensor>> {
        let found: Vec<_> = delivered.flatten().collect();
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
        self.params.first().map_or(&Device::Cpu, Param::device)
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
    delivered: &mut Vec<Vec<Option<Tensor>>>,
) -> Result<GradStore> {
    let Some((watch, others)) = watches.split_first() else { return loss.backward() };
    let (grads, of_watch) = watch.pass(|| watched(others, loss, delivered))?;
    delivered.push(of_watch);
    Ok(grads)
}
