//! The parametric rectifier.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::norm;
use crate::check::ensure_same_dtype;
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::ops;
use crate::ops::scalar::is_direct;
use crate::param::{Param, sets};
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::{ParamKind, ParamSource, ParamSpec, VarBuilderSource};

/// What a parametric rectifier is made of: `prelu(num_channels)` in an attribute, with `None` for
/// one slope for all channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PReLUSpec {
    num_channels: Option<usize>,
}

impl PReLUSpec {
    /// The layer's tensors, what it takes for one sample, and what is wrong with its sizes, if anything.
    pub const fn info(&self) -> LayerInfo {
        let (channels, takes) = match self.num_channels {
            Some(channels) => (channels, SampleShape::first(&[Some(channels)])),
            None => (1, SampleShape::ANY),
        };
        LayerInfo::new("prelu")
            .size("num_channels", channels)
            .takes(takes)
            .tensor("weight", &[channels])
    }

    /// The shape of the output of one sample: that of the input.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(*input)
    }

    /// Asks the source for the slopes, which start at 0.25.
    fn slopes(&self, source: &mut dyn ParamSource) -> Result<Param> {
        crate::check::ensure(self.info().problem)?;
        let spec = ParamSpec {
            name: "weight",
            dims: &[self.info().num_params],
            kind: ParamKind::Slope,
            init: Init::Const(0.25),
        };
        source.param(&spec)?.into_one_weight()
    }
}

/// The attribute's constructors.
pub mod spec {
    use super::PReLUSpec;

    /// `#[hyper(prelu(num_channels))]`.
    pub const fn prelu(num_channels: Option<usize>) -> PReLUSpec {
        PReLUSpec { num_channels }
    }
}

/// `x` where it is positive, a learnt slope times `x` elsewhere, as `candle_nn::PReLU`.
///
/// `weight` is `[1]` or `[channels]`, or `[G, 1]` or `[G, channels]` for `G` sets. At 0 the
/// derivative is the slope, as in PyTorch.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use hypernn::nn::{Module, PReLU};
///
/// # fn main() -> candle_core::Result<()> {
/// let layer = PReLU::new(Tensor::new(&[0.5f32], &Device::Cpu)?, true);
/// let ys = layer.forward(&Tensor::new(&[[-2f32, 2.]], &Device::Cpu)?)?;
/// assert_eq!(ys.to_vec2::<f32>()?, [[-1., 2.]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PReLU {
    weight: Param,
    is_scalar: bool,
}

impl PReLU {
    /// A layer over an existing tensor, with one slope for all channels where `is_scalar`.
    pub fn new(weight: Tensor, is_scalar: bool) -> Self {
        Self { weight: weight.into(), is_scalar }
    }

    /// The slopes, `[channels]` or `[1]`, or `[G, …]` for `G` sets.
    pub fn weight(&self) -> &Tensor {
        self.weight.shown(1)
    }

    /// Whether all channels share one slope.
    pub fn is_scalar(&self) -> bool {
        self.is_scalar
    }

    /// The slopes `[G, channels]`, with 1 channel where all share one.
    fn slopes(&self) -> Result<Param> {
        let mut weight = self.weight.clone();
        if weight.rank() == 0 {
            weight = weight.reshaped(|weight| weight.reshape(1))?;
        }
        let slopes = weight.spread(1, sets::among("prelu", [("weight", weight.outline(), 1)])?)?;
        if self.is_scalar && slopes.values().dim(1)? != 1 {
            crate::error::bail!(
                shape,
                "prelu: the weight has shape {:?}, expected one slope per set",
                self.weight.dims()
            );
        }
        Ok(slopes)
    }

    /// The batch and the channels of an input; one dimension is channels where they have slopes.
    fn sizes(&self, xs: &Tensor, channels: usize) -> Result<(usize, usize)> {
        let (batch, found) = match *xs.dims() {
            [] => (1, 1),
            [batch, ..] if self.is_scalar => (batch, 1),
            [batch] if channels == 1 => (batch, 1),
            [found] => (1, found),
            [batch, found, ..] => (batch, found),
        };
        if found != channels {
            crate::error::bail!(
                shape,
                "prelu: the input has {found} channels (shape {:?}), the layer takes {channels}",
                xs.dims()
            );
        }
        Ok((batch, channels))
    }
}

impl Module for PReLU {
    /// `[B, channels, …]` to the same; `[channels]` to the same without sets.
    ///
    /// # Errors
    /// The input has another number of channels, or the batch is not a multiple of the number of
    /// sets.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let slopes = self.slopes()?;
        let (sets, channels) = slopes.values().dims2()?;
        let (batch, channels) = self.sizes(xs, channels)?;
        ensure_same_dtype("prelu", "the input", xs.dtype(), "the weight", slopes.dtype())?;
        sets::rows_per_set("prelu", batch, sets)?;
        let lines = batch * channels;
        let per_line = xs.elem_count() / lines.max(1);
        let ys = if is_direct(xs) && !slopes.is_view() {
            let slopes = norm::per_channel(slopes.values(), batch)?;
            ops::prelu::prelu(&xs.reshape((lines, per_line))?, &slopes.into())?
        } else {
            let values = xs.reshape((sets, batch / sets, channels, per_line))?;
            let shape = (sets, 1, channels, 1);
            ops::prelu::prelu(&values, &slopes.reshaped(|slopes| slopes.reshape(shape))?)?
        };
        ys.reshape(xs.shape())
    }
}

impl HyperLayer<PReLUSpec> for PReLU {
    const TAKES_SETS: bool = true;

    fn build(spec: &PReLUSpec, source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self { weight: spec.slopes(source)?, is_scalar: spec.num_channels.is_none() })
    }
}

impl Parameters for PReLU {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        visitor("weight", self.weight.visited())
    }

    fn reused(&self, name: &str) -> Result<Option<Param>> {
        self.weight.reused(name)
    }
}

impl HyperLayer<PReLUSpec> for candle_nn::PReLU {
    fn build(spec: &PReLUSpec, source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self::new(spec.slopes(source)?.collected()?, spec.num_channels.is_none()))
    }
}

impl Parameters for candle_nn::PReLU {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        visitor("weight", self.weight())
    }
}

/// A parametric rectifier, with one slope where `num_channels` is `None`; variable `weight`.
///
/// # Errors
/// There are zero channels, or the builder's tensor has another shape.
pub fn prelu(num_channels: Option<usize>, vs: VarBuilder<'_>) -> Result<PReLU> {
    PReLU::build(&PReLUSpec { num_channels }, &mut VarBuilderSource::new(vs))
}
