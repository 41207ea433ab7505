//! The one-dimensional convolution.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Conv1dConfig, VarBuilder};

use super::affine::Affine;
use super::sliding_window::SlidingWindow;
use super::{affine, conv, sliding_window};
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::{ParamSource, VarBuilderSource};

/// What a one-dimensional convolution is made of: `conv1d(in_channels, out_channels, kernel_size)`
/// in an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv1dSpec {
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    bias: bool,
    config: Conv1dConfig,
}

impl Conv1dSpec {
    /// The stride.
    #[must_use]
    pub const fn stride(mut self, stride: usize) -> Self {
        self.config.stride = stride;
        self
    }

    /// The zeros on both sides.
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
    pub const fn config(mut self, config: Conv1dConfig) -> Self {
        self.config = config;
        self
    }

    /// The layer's tensors, what it takes for one sample, and what is wrong with its sizes, if anything.
    pub const fn info(&self) -> LayerInfo {
        let channels = [("in_channels", self.in_channels), ("out_channels", self.out_channels)];
        let Conv1dConfig { stride, dilation, groups, .. } = self.config;
        let kernel = self.kernel_size;
        let problem = conv::check("conv1d", channels, kernel, stride, dilation, groups);
        let info = LayerInfo::new("conv1d")
            .checked(problem)
            .takes(sliding_window::takes::<1>(self.in_channels))
            .tensor("weight", &self.dims());
        if self.bias { info.tensor("bias", &[self.out_channels]) } else { info }
    }

    /// The shape of the output of one sample, `[out_channels, length]`, with the length that the kernel makes.
    ///
    /// # Errors
    /// The kernel does not fit into the padded input.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        let Conv1dConfig { padding, stride, dilation, .. } = self.config;
        let taps = self.kernel_size;
        let window = SlidingWindow { taps, stride, padding, dilation, output_padding: 0 };
        window.gives::<1>(self.out_channels, input, false)
    }

    const fn dims(&self) -> [usize; 3] {
        // Zero groups are caught by the check, which may come later.
        let groups = if self.config.groups == 0 { 1 } else { self.config.groups };
        [self.out_channels, self.in_channels / groups, self.kernel_size]
    }

    /// Weight and bias, as candle's constructors initialise them.
    fn params(&self, source: &mut dyn ParamSource) -> Result<Affine> {
        crate::check::ensure(self.info().problem)?;
        let Conv1dConfig { padding, stride, dilation, groups, .. } = self.config;
        source.describe(&format_args!(
            "conv1d, stride {stride}, padding {padding}, dilation {dilation}, groups {groups}"
        ));
        let bias = self.bias.then_some(self.out_channels);
        Affine::from_source(source, &self.dims(), bias, affine::init(self.in_channels))
    }
}

/// The attribute's constructors.
pub mod spec {
    use super::{Conv1dConfig, Conv1dSpec};

    pub(super) const DEFAULT: Conv1dConfig =
        Conv1dConfig { padding: 0, stride: 1, dilation: 1, groups: 1, cudnn_fwd_algo: None };

    /// `#[hyper(conv1d(in_channels, out_channels, kernel_size))]`.
    pub const fn conv1d(in_channels: usize, out_channels: usize, kernel_size: usize) -> Conv1dSpec {
        Conv1dSpec { in_channels, out_channels, kernel_size, bias: true, config: DEFAULT }
    }

    /// `#[hyper(conv1d_no_bias(in_channels, out_channels, kernel_size))]`.
    pub const fn conv1d_no_bias(
        in_channels: usize,
        out_channels: usize,
        kernel_size: usize,
    ) -> Conv1dSpec {
        Conv1dSpec { in_channels, out_channels, kernel_size, bias: false, config: DEFAULT }
    }
}

/// A one-dimensional convolution, as `candle_nn::Conv1d`.
///
/// `weight` is `[out, in / groups, k]`, or `[G, out, in / groups, k]` for `G` sets; `bias`
/// `[out]` or `[G, out]`. The configuration's `cudnn_fwd_algo` is kept and not used.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use hypernn::nn::{Conv1d, Conv1dConfig, Module};
///
/// # fn main() -> candle_core::Result<()> {
/// // Two sets of weights, two rows: each uses its own set.
/// let weight = Tensor::new(&[1f32, 10.], &Device::Cpu)?.reshape((2, 1, 1, 1))?;
/// let layer = Conv1d::new(weight, None, Conv1dConfig::default());
/// let ys = layer.forward(&Tensor::ones((2, 1, 3), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(ys.flatten_all()?.to_vec1::<f32>()?, [1., 1., 1., 10., 10., 10.]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Conv1d {
    params: Affine,
    config: Conv1dConfig,
}

conv::layer! {
    impl Conv1d;

    /// Stride, padding, dilation and groups.
    pub fn config -> Conv1dConfig;

    weight of rank 3;

    /// A one-dimensional convolution with bias; variables `weight` and `bias`.
    ///
    /// # Errors
    /// The sizes are invalid, or the builder's tensors have another shape.
    pub fn conv1d;

    /// A one-dimensional convolution without bias; variable `weight`.
    ///
    /// # Errors
    /// The sizes are invalid, or the builder's tensor has another shape.
    pub fn conv1d_no_bias;
}

impl Module for Conv1d {
    /// `[B, in, L]` to `[B, out, L']`, where
    /// `L' = (L + 2 padding - dilation (k - 1) - 1) / stride + 1`.
    ///
    /// # Errors
    /// The input has another rank or number of channels, the kernel is larger than the padded
    /// input, or the batch is not a multiple of the number of sets.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let Conv1dConfig { padding, stride, dilation, groups, .. } = self.config;
        conv::Convolution {
            layer: "conv1d",
            axes: 1,
            params: &self.params,
            stride,
            padding,
            output_padding: 0,
            dilation,
            groups,
        }
        .forward(xs)
    }
}

impl HyperLayer<Conv1dSpec> for Conv1d {
    const TAKES_SETS: bool = true;

    fn build(spec: &Conv1dSpec, source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self { params: spec.params(source)?, config: spec.config })
    }
}

impl HyperLayer<Conv1dSpec> for candle_nn::Conv1d {
    const REFUSED: Option<&'static str> =
        Some("candle_nn::Conv1d computes a wrong gradient of its weight: use hypernn::nn::Conv1d");

    fn build(spec: &Conv1dSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let (weight, bias) = spec.params(source)?.to_tensors()?;
        Ok(Self::new(weight, bias, spec.config))
    }
}
