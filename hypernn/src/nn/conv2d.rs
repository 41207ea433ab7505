//! The two-dimensional convolution.

use candle_core::{D, Module, Result, Tensor};
use candle_nn::{Conv2dConfig, Init, VarBuilder};

use super::affine::Affine;
use super::sliding_window::SlidingWindow;
use super::{BatchNorm, affine, conv, sliding_window};
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::param::{Adapter, Param};
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::{ParamSource, VarBuilderSource};

/// What a two-dimensional convolution is made of: `conv2d(in_channels, out_channels, kernel_size)`
/// in an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dSpec {
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    bias: bool,
    config: Conv2dConfig,
}

impl Conv2dSpec {
    /// The stride along both axes.
    #[must_use]
    pub const fn stride(mut self, stride: usize) -> Self {
        self.config.stride = stride;
        self
    }

    /// The zeros on all four sides.
    #[must_use]
    pub const fn padding(mut self, padding: usize) -> Self {
        self.config.padding = padding;
        self
    }

    /// The distance between neighbouring values of the kernel.
    #[must_use]
    pub const fn dilation(mut self, dilation: usize) -> Self {
        self.config.dilation = dilation;
        self
    }

    /// The number of groups that see only their own channels.
    #[must_use]
    pub const fn groups(mut self, groups: usize) -> Self {
        self.config.groups = groups;
        self
    }

    /// Every setting at once, as candle's configuration has them.
    #[must_use]
    pub const fn config(mut self, config: Conv2dConfig) -> Self {
        self.config = config;
        self
    }

    /// The layer's tensors, what it takes for one sample, and what is wrong with its sizes, if anything.
    pub const fn info(&self) -> LayerInfo {
        let channels = [("in_channels", self.in_channels), ("out_channels", self.out_channels)];
        let Conv2dConfig { stride, dilation, groups, .. } = self.config;
        let kernel = self.kernel_size;
        let problem = conv::check("conv2d", channels, kernel, stride, dilation, groups);
        let info = LayerInfo::new("conv2d")
            .checked(problem)
            .takes(sliding_window::takes::<2>(self.in_channels))
            .tensor("weight", &self.dims());
        if self.bias { info.tensor("bias", &[self.out_channels]) } else { info }
    }

    /// The shape of the output of one sample, `[out_channels, height, width]`, as the kernel makes it.
    ///
    /// # Errors
    /// The kernel does not fit into the padded input.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        let Conv2dConfig { padding, stride, dilation, .. } = self.config;
        let taps = self.kernel_size;
        let window = SlidingWindow { taps, stride, padding, dilation, output_padding: 0 };
        window.gives::<2>(self.out_channels, input, false)
    }

    const fn dims(&self) -> [usize; 4] {
        // Zero groups are caught by the check, which may come later.
        let groups = if self.config.groups == 0 { 1 } else { self.config.groups };
        [self.out_channels, self.in_channels / groups, self.kernel_size, self.kernel_size]
    }

    /// Weight and bias, as candle's constructors initialise them.
    fn params(&self, source: &mut dyn ParamSource) -> Result<Affine> {
        let (dims, bias, inits) = self.shapes()?;
        self.describe(source);
        Affine::from_source(source, &dims, bias, inits)
    }

    /// Weight and bias, with a low-rank adapter apart from the weight; in a convolution of several groups the
    /// adapter is merged into it.
    fn adapted(&self, source: &mut dyn ParamSource) -> Result<Affine> {
        if self.config.groups != 1 {
            return self.params(source);
        }
        let (dims, bias, inits) = self.shapes()?;
        self.describe(source);
        let params = Affine::adapted(source, &dims, bias, inits)?;
        Ok(Affine { weight: params.weight.dense()?, ..params })
    }

    fn describe(&self, source: &mut dyn ParamSource) {
        let Conv2dConfig { padding, stride, dilation, groups, .. } = self.config;
        source.describe(&format_args!(
            "conv2d, stride {stride}, padding {padding}, dilation {dilation}, groups {groups}"
        ));
    }

    /// The dimensions of weight and bias, and their inits.
    fn shapes(&self) -> Result<([usize; 4], Option<usize>, [Init; 2])> {
        crate::check::ensure(self.info().problem)?;
        let bias = self.bias.then_some(self.out_channels);
        Ok((self.dims(), bias, affine::init(self.in_channels)))
    }
}

/// The attribute's constructors.
pub mod spec {
    use super::{Conv2dConfig, Conv2dSpec};

    pub(super) const DEFAULT: Conv2dConfig =
        Conv2dConfig { padding: 0, stride: 1, dilation: 1, groups: 1, cudnn_fwd_algo: None };

    /// `#[hyper(conv2d(in_channels, out_channels, kernel_size))]`.
    pub const fn conv2d(in_channels: usize, out_channels: usize, kernel_size: usize) -> Conv2dSpec {
        Conv2dSpec { in_channels, out_channels, kernel_size, bias: true, config: DEFAULT }
    }

    /// `#[hyper(conv2d_no_bias(in_channels, out_channels, kernel_size))]`.
    pub const fn conv2d_no_bias(
        in_channels: usize,
        out_channels: usize,
        kernel_size: usize,
    ) -> Conv2dSpec {
        Conv2dSpec { in_channels, out_channels, kernel_size, bias: false, config: DEFAULT }
    }
}

/// A two-dimensional convolution, as `candle_nn::Conv2d`.
///
/// `weight` is `[out, in / groups, k, k]`, or `[G, out, in / groups, k, k]` for `G` sets; `bias`
/// `[out]` or `[G, out]`. The configuration's `cudnn_fwd_algo` is kept and not used.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use hypernn::nn::{Conv2d, Conv2dConfig, Module};
///
/// # fn main() -> candle_core::Result<()> {
/// // Two sets of weights, two images: each image uses its own set.
/// let weight = Tensor::new(&[1f32, 10.], &Device::Cpu)?.reshape((2, 1, 1, 1, 1))?;
/// let layer = Conv2d::new(weight, None, Conv2dConfig::default());
/// let ys = layer.forward(&Tensor::ones((2, 1, 1, 3), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(ys.flatten_all()?.to_vec1::<f32>()?, [1., 1., 1., 10., 10., 10.]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Conv2d {
    params: Affine,
    config: Conv2dConfig,
}

conv::layer! {
    impl Conv2d;

    /// Stride, padding, dilation and groups.
    pub fn config -> Conv2dConfig;

    weight of rank 4;

    /// A two-dimensional convolution with bias; variables `weight` and `bias`.
    ///
    /// # Errors
    /// The sizes are invalid, or the builder's tensors have another shape.
    pub fn conv2d;

    /// A two-dimensional convolution without bias; variable `weight`.
    ///
    /// # Errors
    /// The sizes are invalid, or the builder's tensor has another shape.
    pub fn conv2d_no_bias;
}

impl Conv2d {
    /// This layer and the evaluation of the batch norm behind it, as one layer.
    ///
    /// # Errors
    /// The batch norm has no weight and bias, or another number of features or sets.
    pub fn absorb_bn(&self, bn: &BatchNorm) -> Result<Self> {
        let tensor = |param: Option<Param>| param.as_ref().map(Param::collected).transpose();
        let tensors = (tensor(bn.reused("weight")?)?, tensor(bn.reused("bias")?)?);
        let (Some(bn_weight), Some(bn_bias)) = tensors else {
            candle_core::bail!("conv2d: the batch norm to absorb has no weight and bias");
        };
        let scale = (bn.running_var() + bn.eps())?.sqrt()?.recip()?.broadcast_mul(&bn_weight)?;
        let mean = match tensor(self.params.reused("bias")?)? {
            None => bn.running_mean().neg()?,
            Some(bias) => bias.broadcast_sub(bn.running_mean())?,
        };
        let bias = bn_bias.broadcast_add(&mean.broadcast_mul(&scale)?)?;
        let mut dims = scale.dims().to_vec();
        dims.extend([1, 1, 1]);
        let weight = self.params.weight.merged()?.broadcast_mul(&scale.reshape(dims)?)?;
        Ok(Self::new(weight, Some(bias), self.config))
    }
}

impl Conv2d {
    /// What an adapter adds to the output: a convolution to few channels, and one of single places.
    fn adapt(&self, adapter: &Adapter, xs: &Tensor) -> Result<Tensor> {
        let kernel = &self.params.weight().dims()[1..];
        let Adapter { down, up, .. } = adapter;
        let dims = [&down.dims()[..down.rank() - 1], kernel].concat();
        let down = down.reshaped(|down| down.reshape(dims))?;
        let up = up.reshaped(|up| up.unsqueeze(D::Minus1)?.unsqueeze(D::Minus1))?;
        let alone = |weight| Affine { weight, bias: None };
        let hidden = convolve(&alone(down), self.config, &adapter.dropped(xs)?)?;
        convolve(&alone(up), spec::DEFAULT, &hidden)? * adapter.scale
    }
}

fn convolve(params: &Affine, config: Conv2dConfig, xs: &Tensor) -> Result<Tensor> {
    let Conv2dConfig { padding, stride, dilation, groups, .. } = config;
    let (layer, axes, output_padding) = ("conv2d", 2, 0);
    conv::Convolution { layer, axes, params, stride, padding, output_padding, dilation, groups }
        .forward(xs)
}

impl Module for Conv2d {
    /// `[B, in, H, W]` to `[B, out, H', W']`, where
    /// `H' = (H + 2 padding - dilation (k - 1) - 1) / stride + 1`, and `W'` likewise.
    ///
    /// # Errors
    /// The input has another rank or number of channels, the kernel is larger than the padded
    /// input, or the batch is not a multiple of the number of sets.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = convolve(&self.params, self.config, xs)?;
        match self.params.weight.adapter() {
            None => Ok(ys),
            Some(adapter) => ys + self.adapt(adapter, xs)?,
        }
    }
}

impl HyperLayer<Conv2dSpec> for Conv2d {
    const TAKES_SETS: bool = true;

    fn build(spec: &Conv2dSpec, source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self { params: spec.adapted(source)?, config: spec.config })
    }
}

/// Candle's own layer can't be differentiated where the stride leaves different remainders of an
/// image's height and width: its backward then returns an error about shapes.
impl HyperLayer<Conv2dSpec> for candle_nn::Conv2d {
    fn build(spec: &Conv2dSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let (weight, bias) = spec.params(source)?.to_tensors()?;
        Ok(Self::new(weight, bias, spec.config))
    }
}
