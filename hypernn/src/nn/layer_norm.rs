//! Layer normalisation.

use candle_core::{D, Module, Result, Tensor};
pub use candle_nn::LayerNormConfig;
use candle_nn::{Init, VarBuilder};

use super::affine::Affine;
use super::norm;
pub use super::rms_norm::{RmsNorm, rms_norm};
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::param::{Param, sets};
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::{ParamSource, variable};

/// What a layer norm is made of: `layer_norm(size)` or `layer_norm(size, config)` in an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNormSpec {
    size: usize,
    config: LayerNormConfig,
}

impl LayerNormSpec {
    /// What is added to the variance.
    #[must_use]
    pub const fn eps(mut self, eps: f64) -> Self {
        self.config.eps = eps;
        self
    }

    /// Whether the mean is removed.
    #[must_use]
    pub const fn remove_mean(mut self, remove_mean: bool) -> Self {
        self.config.remove_mean = remove_mean;
        self
    }

    /// Whether there is a bias; a weight there is in any case.
    #[must_use]
    pub const fn affine(mut self, affine: bool) -> Self {
        self.config.affine = affine;
        self
    }

    /// Every setting at once, as candle's configuration has them.
    #[must_use]
    pub const fn config(mut self, config: LayerNormConfig) -> Self {
        self.config = config;
        self
    }

    /// The layer's tensors, what it takes for one sample, and what is wrong with its sizes, if anything.
    pub const fn info(&self) -> LayerInfo {
        let size = self.size;
        let info = LayerInfo::new("layer_norm")
            .size("size", size)
            .takes(SampleShape::last(size))
            .tensor("weight", &[size])
            .checked(norm::eps("layer_norm", self.config.eps));
        if self.config.affine { info.tensor("bias", &[size]) } else { info }
    }

    /// The shape of the output of one sample: that of the input.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(*input)
    }

    /// Asks the source for weight and bias, which start at 1 and 0.
    fn params(&self, source: &mut dyn ParamSource) -> Result<Affine> {
        crate::check::ensure(self.info().problem)?;
        let LayerNormConfig { eps, remove_mean, .. } = self.config;
        match remove_mean {
            true => source.describe(&format_args!("layer_norm, eps {eps}")),
            false => source.describe(&format_args!("rms_norm, eps {eps}")),
        }
        Affine::of_norm(source, self.size, self.config.affine)
    }
}

/// The attribute's constructors.
pub mod spec {
    use super::{LayerNormConfig, LayerNormSpec};

    /// `#[hyper(layer_norm(size))]`.
    pub const fn layer_norm(size: usize) -> LayerNormSpec {
        let config = LayerNormConfig { eps: 1e-5, remove_mean: true, affine: true };
        LayerNormSpec { size, config }
    }

    /// `#[hyper(layer_norm_no_bias(size, eps))]`.
    pub const fn layer_norm_no_bias(size: usize, eps: f64) -> LayerNormSpec {
        layer_norm(size).eps(eps).affine(false)
    }
}

/// Layer normalisation over the last dimension, as `candle_nn::LayerNorm`.
///
/// `weight` and `bias` are `[size]`, or `[G, size]` for `G` sets.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use hypernn::nn::{LayerNorm, Module};
///
/// # fn main() -> candle_core::Result<()> {
/// // Two sets of weights, two rows: each row uses its own set.
/// let weight = Tensor::new(&[[1f32, 1.], [10., 10.]], &Device::Cpu)?;
/// let xs = Tensor::new(&[[-3f32, 3.], [-3., 3.]], &Device::Cpu)?;
/// let ys = LayerNorm::new_no_bias(weight, 0.).forward(&xs)?;
/// assert_eq!(ys.to_vec2::<f32>()?, [[-1., 1.], [-10., 10.]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LayerNorm {
    pub(super) params: Affine,
    pub(super) remove_mean: bool,
    pub(super) eps: f64,
}

impl LayerNorm {
    /// A layer over existing tensors. As in candle this is no `Result`: `forward` looks at `eps`.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { params: Affine::new(weight, Some(bias)), remove_mean: true, eps }
    }

    /// A layer without bias.
    pub fn new_no_bias(weight: Tensor, eps: f64) -> Self {
        Self { params: Affine::new(weight, None), remove_mean: true, eps }
    }

    /// A layer without bias that does not remove the mean.
    pub fn rms_norm(weight: Tensor, eps: f64) -> Self {
        Self { params: Affine::new(weight, None), remove_mean: false, eps }
    }

    /// The weight, `[size]`, or `[G, size]` for `G` sets.
    pub fn weight(&self) -> &Tensor {
        self.params.weight.shown(1)
    }

    /// The bias, `[size]`, or `[G, size]` for `G` sets; none in a layer without one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.params.shown_bias()
    }

    /// What is added to the variance.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// Whether the mean is removed.
    pub fn remove_mean(&self) -> bool {
        self.remove_mean
    }

    /// The forward of the layer named `layer` in errors.
    pub(super) fn forward_as(&self, layer: &'static str, xs: &Tensor) -> Result<Tensor> {
        crate::check::ensure(norm::eps(layer, self.eps))?;
        let sets = self.params.sets(layer, 1)?;
        let size = self.params.weight.outline().dim(D::Minus1)?;
        let found = xs.dims().last().copied().unwrap_or(0);
        if found != size {
            crate::error::bail!(
                shape,
                "{layer}: the input has width {found} (shape {:?}), the layer takes {size}",
                xs.dims()
            );
        }
        if size == 0 {
            candle_core::bail!("{layer}: the weight has no values, expected at least one");
        }
        if xs.rank() > 1 || sets > 1 {
            sets::rows_per_set(layer, if xs.rank() > 1 { xs.dim(0)? } else { 1 }, sets)?;
        }
        let by_set = xs.reshape((sets, xs.elem_count() / size / sets, size))?;
        let ys = norm::standardise(&by_set, self.remove_mean, self.eps)?;
        norm::scale_rows(layer, &ys, &self.params.spread(1, sets)?)?.reshape(xs.shape())
    }
}

impl Module for LayerNorm {
    /// `[…, size]` to `[…, size]`.
    ///
    /// # Errors
    /// The input's last dimension is not `size`, or its first not a multiple of the number of sets; or the
    /// layer was made with an epsilon that is NaN, infinite or below zero.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.forward_as("layer_norm", xs)
    }
}

impl HyperLayer<LayerNormSpec> for LayerNorm {
    const TAKES_SETS: bool = true;

    fn build(spec: &LayerNormSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let LayerNormConfig { eps, remove_mean, .. } = spec.config;
        Ok(Self { params: spec.params(source)?, remove_mean, eps })
    }
}

impl Parameters for LayerNorm {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.params.visit(visitor)
    }

    fn reused(&self, name: &str) -> Result<Option<Param>> {
        self.params.reused(name)
    }
}

impl HyperLayer<LayerNormSpec> for candle_nn::LayerNorm {
    const REFUSED: Option<&'static str> = Some(
        "candle_nn::LayerNorm drops the gradient of its weight and bias: use hypernn::nn::LayerNorm",
    );

    fn build(spec: &LayerNormSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let (weight, bias) = spec.params(source)?.to_tensors()?;
        let LayerNormConfig { eps, remove_mean, .. } = spec.config;
        match (bias, remove_mean) {
            (Some(bias), true) => Ok(Self::new(weight, bias, eps)),
            (None, true) => Ok(Self::new_no_bias(weight, eps)),
            (None, false) => Ok(Self::rms_norm(weight, eps)),
            (Some(_), false) => candle_core::bail!(
                "candle_nn::LayerNorm can't be made with a bias and its mean kept: use hypernn::nn::LayerNorm"
            ),
        }
    }
}

impl Parameters for candle_nn::LayerNorm {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        visitor("weight", self.weight())?;
        self.bias().map_or(Ok(()), |bias| visitor("bias", bias))
    }
}

/// A layer norm; variables `weight` (or `gamma`, where the builder has one) and `bias` (or `beta`).
///
/// # Errors
/// The size is zero, the epsilon negative, or the builder's tensors have another shape.
pub fn layer_norm<C: Into<LayerNormConfig>>(
    size: usize,
    config: C,
    vb: VarBuilder<'_>,
) -> Result<LayerNorm> {
    let config = config.into();
    crate::check::ensure(LayerNormSpec { size, config }.info().problem)?;
    let named = |names: [&'static str; 2], value| {
        let name = names.into_iter().find(|name| vb.contains_tensor(name)).unwrap_or(names[0]);
        variable(&vb, &[size], name, Init::Const(value))
    };
    let weight = named(["weight", "gamma"], 1.)?;
    let bias = config.affine.then(|| named(["bias", "beta"], 0.)).transpose()?;
    let LayerNormConfig { remove_mean, eps, .. } = config;
    Ok(LayerNorm { params: Affine::new(weight, bias), remove_mean, eps })
}

/// A layer norm without bias; variable `weight` (or `gamma`, where the builder has one).
///
/// # Errors
/// The size is zero, the epsilon negative, or the builder's tensor has another shape.
pub fn layer_norm_no_bias(size: usize, eps: f64, vb: VarBuilder<'_>) -> Result<LayerNorm> {
    layer_norm(size, LayerNormConfig { eps, remove_mean: true, affine: false }, vb)
}
