//! A parameter on its way to a layer: its values, where its gradient goes, and what adapts it.

mod adapter;
mod deferred;
mod kept;
mod quantized;
mod route;
pub(crate) mod scope;
pub(crate) mod sets;
mod watch;

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Result, Tensor};

pub(crate) use adapter::Adapter;
pub(crate) use deferred::Deferred;
pub(crate) use kept::KeptTensor;
pub(crate) use quantized::Quantized;
pub(crate) use route::{Accumulator, PendingGradient, Route, Routes};
pub(crate) use watch::{shown, watch_weights};

/// A parameter as a [`ParamSource`](crate::structure::source::ParamSource) gives it: a tensor `[dims…]`, or
/// `[G, dims…]` for `G` sets.
///
/// A layer of your own takes the tensor, [`to_tensor`](Self::to_tensor), and uses it in any way: gradients
/// flow back from there to the hypernetwork's variables. The layers of [`nn`](crate::nn) keep the parameter
/// itself, whose gradient then takes a shorter way.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use hypernn::param::Param;
///
/// # fn main() -> candle_core::Result<()> {
/// let param = Param::from(Tensor::new(&[1f32, 2.], &Device::Cpu)?);
/// assert_eq!(param.dims(), [2]);
/// assert_eq!(param.to_tensor()?.to_vec1::<f32>()?, [1., 2.]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Param {
    /// The values, without what adapts them; perhaps a view of the flat vector. Of a parameter whose values are not there
    /// all else: dimensions, dtype and device.
    tensor: Tensor,
    absent: Option<Box<AbsentValues>>,
    /// Where the gradient is collected; without one it takes the tensor's own edge of the graph.
    route: Option<Route>,
    adapter: Option<Box<Adapter>>,
    /// The name of a parameter whose adapter drops a part of its input: such can't be one weight.
    inseparable: Option<Arc<str>>,
    /// What was given to whoever asked the layer for it.
    shown: OnceLock<Tensor>,
}

/// What a parameter has beside its outline whose values are not there; in a box, for parameters are moved often and
/// few are so.
#[derive(Clone, Debug)]
struct AbsentValues {
    from: ValueSource,
    /// The values, for whoever asks for them.
    values: OnceLock<Tensor>,
}

/// What values are computed from.
#[derive(Clone)]
enum ValueSource {
    Quantized(Quantized),
    Deferred(Arc<dyn Deferred>),
}

impl std::fmt::Debug for ValueSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quantized(quantized) => quantized.fmt(f),
            Self::Deferred(_) => f.write_str("Deferred"),
        }
    }
}

impl ValueSource {
    fn values(&self) -> Result<Tensor> {
        match self {
            Self::Quantized(quantized) => quantized.dequantize(),
            Self::Deferred(deferred) => deferred.values(),
        }
    }
}

impl From<Tensor> for Param {
    fn from(tensor: Tensor) -> Self {
        Self::routed(tensor, None)
    }
}

impl Param {
    /// A tensor whose gradient goes this way.
    pub(crate) fn routed(tensor: Tensor, route: Option<Route>) -> Self {
        Self {
            tensor,
            absent: None,
            route,
            adapter: None,
            inseparable: None,
            shown: OnceLock::new(),
        }
    }

    /// A frozen tensor that stays quantised.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn quantized(quantized: Quantized) -> Result<Self> {
        let outline = quantized::outline(quantized.dims(), quantized.dtype(), quantized.device())?;
        Ok(Self::absent(outline, ValueSource::Quantized(quantized)))
    }

    /// A parameter whose values are computed when a layer asks for them.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn deferred(
        dims: &[usize],
        dtype: DType,
        device: &Device,
        values: Arc<dyn Deferred>,
    ) -> Result<Self> {
        let outline = quantized::outline(dims, dtype, device)?;
        Ok(Self::absent(outline, ValueSource::Deferred(values)))
    }

    fn absent(outline: Tensor, from: ValueSource) -> Self {
        let absent = AbsentValues { from, values: OnceLock::new() };
        Self { absent: Some(Box::new(absent)), ..Self::routed(outline, None) }
    }

    /// This parameter with what adapts it.
    pub(crate) fn with_adapter(self, adapter: Adapter) -> Self {
        Self { adapter: Some(Box::new(adapter)), ..self }
    }

    /// This parameter under its name, with an adapter that drops a part of its input.
    pub(crate) fn with_dropout(self, name: &str) -> Self {
        Self { inseparable: Some(name.into()), ..self }
    }

    /// The parameter's dimensions, with the number of sets in front where there are several.
    pub fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }

    /// The parameter's number of dimensions, with that of the sets.
    pub fn rank(&self) -> usize {
        self.tensor.rank()
    }

    /// The dtype of its values.
    pub fn dtype(&self) -> DType {
        self.tensor.dtype()
    }

    /// The device that holds it.
    pub fn device(&self) -> &Device {
        self.tensor.device()
    }

    /// The tensor as it lies there, without what adapts it. Where this is a view, its own gradient costs as much as
    /// that of the whole vector. Where the values are not there, a copy, which is made when it is first asked for and
    /// kept: layers of which much is expected take [`collected`](Self::collected) or [`reshaped`](Self::reshaped).
    ///
    /// Within a block that is computed twice its graph is not that of the block: see [`route`](Self::route) and
    /// [`reshaped`](Self::reshaped).
    pub(crate) fn values(&self) -> &Tensor {
        match &self.absent {
            None => &self.tensor,
            // What can't be computed shows itself as no numbers.
            Some(absent) => {
                let values = || absent.from.values();
                absent.values.get_or_init(|| values().unwrap_or_else(|_| self.tensor.clone()))
            }
        }
    }

    /// The values where they are not there, for as long as they are used.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn computed(&self) -> Result<Option<Tensor>> {
        self.absent.as_ref().map(|absent| absent.from.values()).transpose()
    }

    /// A tensor of its dimensions, dtype and device; without its values where they are not there.
    pub(crate) fn outline(&self) -> &Tensor {
        &self.tensor
    }

    /// The blocks of a parameter that is quantised.
    pub(crate) fn blocks(&self) -> Option<&Quantized> {
        match self.absent.as_deref() {
            Some(AbsentValues { from: ValueSource::Quantized(blocks), .. }) => Some(blocks),
            _ => None,
        }
    }

    /// This parameter with its values, where it is quantised.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn dense(self) -> Result<Self> {
        if self.blocks().is_some() { self.held() } else { Ok(self) }
    }

    /// This parameter with its values there, for a layer that uses them more than once in a forward.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn held(self) -> Result<Self> {
        match self.computed()? {
            None => Ok(self),
            Some(tensor) => Ok(Self { tensor, absent: None, ..self }),
        }
    }

    /// This parameter's values without their graph.
    pub(crate) fn detached(&self) -> Self {
        match self.absent {
            None => self.tensor.detach().into(),
            // They never had one.
            Some(_) => self.clone(),
        }
    }

    /// The tensor and its route as operations take them: others within a block that is computed twice.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn resolved(&self) -> Result<(Tensor, Option<Route>)> {
        match self.computed()? {
            Some(tensor) => Ok((tensor, None)),
            None => Ok(scope::resolve(&self.tensor, self.route.as_ref())),
        }
    }

    pub(crate) fn route(&self) -> Option<Route> {
        let route = self.route.as_ref()?;
        scope::resolve(&self.tensor, Some(route)).1
    }

    pub(crate) fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_deref()
    }

    /// Whether the parameter is a view of the flat vector.
    pub(crate) fn is_view(&self) -> bool {
        self.route.as_ref().is_some_and(Route::is_of_view)
    }

    /// Where the tensor for others is kept, once one was asked for.
    pub(crate) fn shown_cell(&self) -> &OnceLock<Tensor> {
        &self.shown
    }

    /// This parameter for a layer that may take it as one weight, without the adapter's dropout.
    pub(crate) fn without_dropout(self) -> Self {
        Self { inseparable: None, ..self }
    }

    /// This parameter's values in the shape that `shape` gives them, with the same route, and without an
    /// adapter.
    ///
    /// # Errors
    /// Those of `shape`.
    pub(crate) fn reshaped(&self, shape: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let (tensor, route) = self.resolved()?;
        Ok(Self::routed(shape(&tensor)?, route))
    }

    /// This parameter with contiguous values.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn contiguous(&self) -> Result<Self> {
        self.reshaped(Tensor::contiguous)
    }

    /// Says why a layer that takes base and adapter as one weight can't have this parameter, if so.
    ///
    /// # Errors
    /// The parameter's adapter has a dropout.
    pub(crate) fn ensure_one_weight(&self) -> Result<()> {
        if let Some(name) = &self.inseparable {
            crate::error::bail!(
                declaration,
                "`{name}`: its adapter has a dropout, but its layer takes base and adapter as one weight, so that no input can be dropped: `Linear`, and `Conv2d` of one group, of `hypernn::nn` apply theirs"
            );
        }
        Ok(())
    }
}
