//! Generated parameters that are computed when a layer asks for them.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::scale::{Base, Scales};
use super::{GeneratedParams, Kept, TargetPlan};
use crate::generator::GeneratorOutput;
use crate::memory::ensure_room;
use crate::ops::split::Streamed;
use crate::param::{Deferred, Param};
use crate::structure::layout::Layout;
use crate::structure::{ForwardTarget, ForwardTargetT, Outputs};

/// The parameters of a target `T`, each generated when a layer asks for it and forgotten when the layer has run: for a
/// target whose weights are more than the memory holds, where nothing is to be learned.
///
/// What is kept is what the last layer of the generator is computed from: `[N, E]` or `[G, N, E]`, beside the
/// hypernetwork's own variables. Each forward generates each tensor anew, for each use: linear layers, convolutions,
/// norms and tables of [`nn`](crate::nn) do so, one at a time. Layers of `candle_nn`, bare tensors, layers of a
/// user's own and recurrent cells take their tensors when the target is built, and hold them as long as it lives; so
/// do all layers where several sets take their turns, one after the other. A generator that
/// [`GeneratorOutput`](crate::generator::GeneratorOutput) gets values from, such as `per_module` or one of a user's
/// own, has generated all of them.
///
/// No gradient flows back to the hypernetwork.
///
/// ```
/// use candle_core::{DType, Device, Result, Tensor};
/// use hypernn::nn::{Linear, VarBuilder, VarMap};
/// use hypernn::{HyperTarget, hypernetwork};
///
/// #[derive(HyperTarget)]
/// #[hyper(sequential = [hidden, relu, out])]
/// struct Net {
///     #[hyper(linear(64, 256))]
///     hidden: Linear,
///     #[hyper(linear(256, 8))]
///     out: Linear,
/// }
///
/// hypernetwork! {
///     struct HyperNet for Net { embedding: encoder(3, [8], tanh, 74, 4), generator: linear, mode: dynamic }
/// }
///
/// # fn main() -> Result<()> {
/// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
/// let condition = Tensor::ones(3, DType::F32, &Device::Cpu)?;
/// let xs = Tensor::ones((2, 64), DType::F32, &Device::Cpu)?;
/// let streamed = hyper.stream_params(&condition)?;
/// let ys = streamed.forward(&xs)?;
/// let expected = hyper.generate_params(&condition)?.forward(&xs)?;
/// assert!((ys - expected)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
/// // An ordinary target, whose layers generate their weights whenever they run.
/// let net: Net = streamed.unpack()?;
/// assert_eq!(net.out.weight().dims(), [8, 256]);
/// # Ok(())
/// # }
/// ```
pub struct StreamedParams<T>(GeneratedParams<T>);

impl<T> StreamedParams<T> {
    /// What a generator gave, `[N, C]` or `[G, N, C]`, surplus included, as long as it is not yet computed.
    pub(crate) fn new(
        plan: Arc<TargetPlan<T>>,
        generated: &GeneratorOutput,
        sets: Option<usize>,
        scales: &Scales,
        kept: &Kept,
    ) -> Result<Self> {
        let streamed = Streamed::new(&generated.rows, sets, scales.plan().clone())?;
        let rows = &generated.rows;
        let (dtype, device) = (scales.plan().dtype().unwrap_or(rows.dtype()), rows.device());
        let source = Arc::new(Source { streamed, bases: scales.bases.clone() });
        let param = |(index, dims): (usize, &[usize])| {
            let dims: Vec<_> = sets.into_iter().chain(dims.iter().copied()).collect();
            let what = || format!("a tensor of {}", plan.name);
            ensure_room(what, &dims, dtype, device)?;
            Param::deferred(&dims, dtype, device, Arc::new(One { source: source.clone(), index }))
        };
        let dims = plan.layout.params().iter().map(|param| param.shape.dims()).enumerate();
        let params = dims.map(param).collect::<Result<_>>()?;
        Ok(Self(GeneratedParams::of_params(plan.clone(), params, sets, kept.detach())))
    }

    /// Applies the target; the input's rows are shared out among the sets, as by [`GeneratedParams::forward`].
    ///
    /// An input that has a gradient holds each layer's weights until its graph is dropped.
    ///
    /// # Errors
    /// Those of [`GeneratedParams::forward`].
    pub fn forward<O: Outputs>(&self, xs: &Tensor) -> Result<O>
    where
        T: ForwardTarget<Output = O>,
    {
        self.0.forward(xs)
    }

    /// Applies a target that behaves otherwise in training; see [`forward`](Self::forward).
    ///
    /// # Errors
    /// Those of [`GeneratedParams::forward`].
    pub fn forward_t<O: Outputs>(&self, xs: &Tensor, train: bool) -> Result<O>
    where
        T: ForwardTargetT<Output = O>,
    {
        self.0.forward_t(xs, train)
    }

    /// An ordinary target, for any method of its own, whose layers generate their weights whenever they run. What asks
    /// a layer for its weights, by `layer.weight()`, is shown a tensor that the layer then keeps.
    ///
    /// # Errors
    /// Those of [`GeneratedParams::unpack`].
    pub fn unpack(&self) -> Result<T> {
        self.0.unpack()
    }

    /// The number of sets; `None` where one set serves every row.
    pub fn num_sets(&self) -> Option<usize> {
        self.0.num_sets()
    }

    /// Which tensor lies where in the flat vector.
    pub fn layout(&self) -> &Layout {
        self.0.layout()
    }
}

impl<T> Clone for StreamedParams<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> std::fmt::Debug for StreamedParams<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StreamedParams").field(&self.0).finish()
    }
}

/// What all tensors are computed from.
struct Source {
    streamed: Streamed,
    bases: Vec<(usize, Base)>,
}

/// One of them.
struct One {
    source: Arc<Source>,
    index: usize,
}

impl Deferred for One {
    fn values(&self) -> Result<Tensor> {
        let tensor = self.source.streamed.tensor(self.index)?;
        let base = self.source.bases.iter().find(|(index, _)| *index == self.index);
        let Some((_, base)) = base else { return Ok(tensor) };
        // A gain is a variable.
        Ok(base.apply(&tensor)?.detach())
    }
}
