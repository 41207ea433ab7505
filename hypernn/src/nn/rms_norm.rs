//! Normalisation by the root of the mean square.

use candle_core::{Module, Result, Tensor};
use candle_nn::{LayerNormConfig, VarBuilder};

use super::affine::Affine;
use super::{LayerNorm, layer_norm, norm};
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::param::Param;
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::ParamSource;

/// What an RMS norm is made of: `rms_norm(size, eps)` in an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsNormSpec {
    size: usize,
    eps: f64,
}

impl RmsNormSpec {
    /// The layer's tensors, what it takes for one sample, and what is wrong with its sizes, if anything.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new("rms_norm")
            .size("size", self.size)
            .takes(SampleShape::last(self.size))
            .tensor("weight", &[self.size])
            .checked(norm::eps("rms_norm", self.eps))
    }

    /// The shape of the output of one sample: that of the input.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(*input)
    }

    /// Asks the source for the weight, which starts at 1.
    fn params(&self, source: &mut dyn ParamSource) -> Result<Affine> {
        crate::check::ensure(self.info().problem)?;
        source.describe(&format_args!("rms_norm, eps {}", self.eps));
        Affine::of_norm(source, self.size, false)
    }
}

/// The attribute's constructors.
pub mod spec {
    use super::RmsNormSpec;

    /// `#[hyper(rms_norm(size, eps))]`.
    pub const fn rms_norm(size: usize, eps: f64) -> RmsNormSpec {
        RmsNormSpec { size, eps }
    }
}

/// Normalisation of the last dimension by the root of its mean square, as `candle_nn::RmsNorm`.
///
/// `weight` is `[size]`, or `[G, size]` for `G` sets.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use hypernn::nn::{Module, RmsNorm};
///
/// # fn main() -> candle_core::Result<()> {
/// let layer = RmsNorm::new(Tensor::new(&[1f32, 2.], &Device::Cpu)?, 0.);
/// let ys = layer.forward(&Tensor::new(&[[4f32, 4.]], &Device::Cpu)?)?;
/// assert_eq!(ys.to_vec2::<f32>()?, [[1., 2.]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RmsNorm(LayerNorm);

impl RmsNorm {
    /// A layer over an existing tensor. As in candle this is no `Result`: `forward` looks at `eps`.
    pub fn new(weight: Tensor, eps: f64) -> Self {
        Self(LayerNorm::rms_norm(weight, eps))
    }

    /// The layer norm that it is a case of.
    pub fn into_inner(self) -> LayerNorm {
        self.0
    }

    /// The weight, `[size]`, or `[G, size]` for `G` sets.
    pub fn weight(&self) -> &Tensor {
        self.0.weight()
    }

    /// What is added to the mean square.
    pub fn eps(&self) -> f64 {
        self.0.eps()
    }

    /// Normalises as `forward` does, by candle's name for the differentiable way; here `forward` is
    /// differentiable as well.
    ///
    /// # Errors
    /// Those of `forward`.
    pub fn forward_diff(&self, xs: &Tensor) -> Result<Tensor> {
        self.forward(xs)
    }
}

impl Module for RmsNorm {
    /// `[…, size]` to `[…, size]`.
    ///
    /// # Errors
    /// The input's last dimension is not `size`, or its first not a multiple of the number of sets; or the
    /// layer was made with an epsilon that is NaN, infinite or below zero.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.0.forward_as("rms_norm", xs)
    }
}

impl HyperLayer<RmsNormSpec> for RmsNorm {
    const TAKES_SETS: bool = true;

    fn build(spec: &RmsNormSpec, source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self(LayerNorm { params: spec.params(source)?, remove_mean: false, eps: spec.eps }))
    }
}

impl Parameters for RmsNorm {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.0.visit(visitor)
    }

    fn reused(&self, name: &str) -> Result<Option<Param>> {
        self.0.reused(name)
    }
}

impl HyperLayer<RmsNormSpec> for candle_nn::RmsNorm {
    const REFUSED: Option<&'static str> =
        Some("candle_nn::RmsNorm drops the gradient of its weight: use hypernn::nn::RmsNorm");

    fn build(spec: &RmsNormSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let (weight, _) = spec.params(source)?.to_tensors()?;
        Ok(Self::new(weight, spec.eps))
    }
}

impl Parameters for candle_nn::RmsNorm {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        visitor("weight", self.weight())
    }
}

/// An RMS norm; variable `weight` (or `gamma`, where the builder has one).
///
/// # Errors
/// The size is zero, the epsilon negative, or the builder's tensor has another shape.
pub fn rms_norm(size: usize, eps: f64, vb: VarBuilder<'_>) -> Result<RmsNorm> {
    crate::check::ensure(RmsNormSpec { size, eps }.info().problem)?;
    let config = LayerNormConfig { eps, remove_mean: false, affine: false };
    layer_norm(size, config, vb).map(RmsNorm)
}
