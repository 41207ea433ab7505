//! The one-dimensional transposed convolution.

use candle_core::{Module, Result, Tensor};
use candle_nn::{ConvTranspose1dConfig, Init, VarBuilder};

use super::affine::Affine;
use super::sliding_window::SlidingWindow;
use super::{conv, sliding_window};
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::{ParamSource, VarBuilderSource};

/// What a one-dimensional transposed convolution is made of: `conv_transpose1d(in_channels, out_channels, kernel_size)`
/// in an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose1dSpec {
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    bias: bool,
    config: ConvTranspose1dConfig,
}

impl ConvTranspose1dSpec {
    /// The stride.
    #[must_use]
    pub const fn stride(mut self, stride: usize) -> Self {
        self.config.stride = stride;
        self
    }

    /// What is cut off on both sides.
    #[must_use]
    pub const fn padding(mut self, padding: usize) -> Self {
        self.config.padding = padding;
        self
    }

    /// What is added to the output's size at its end.
    #[must_use]
    pub const fn output_padding(mut self, output_padding: usize) -> Self {
        self.config.output_padding = output_padding;
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
    pub const fn config(mut self, config: ConvTranspose1dConfig) -> Self {
        self.config = config;
        self
    }

    /// The layer's tensors, what it takes for one sample, and what is wrong with its sizes, if anything.
    pub const fn info(&self) -> LayerInfo {
        let channels = [("in_channels", self.in_channels), ("out_channels", self.out_channels)];
        let ConvTranspose1dConfig { stride, dilation, groups, .. } = self.config;
        let kernel = self.kernel_size;
        let problem = conv::check("conv_transpose1d", channels, kernel, stride, dilation, groups);
        let info = LayerInfo::new("conv_transpose1d")
            .checked(problem)
            .takes(sliding_window::takes::<1>(self.in_channels))
            .tensor("weight", &self.dims());
        if self.bias { info.tensor("bias", &[self.out_channels]) } else { info }
    }

    /// The shape of the output of one sample, `[out_channels, length]`, with the length that the kernel makes.
    ///
    /// # Errors
    /// The padding leaves nothing of the output.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        let ConvTranspose1dConfig { padding, output_padding, stride, dilation, .. } = self.config;
        let taps = self.kernel_size;
        let window = SlidingWindow { taps, stride, padding, dilation, output_padding };
        window.gives::<1>(self.out_channels, input, true)
    }

    const fn dims(&self) -> [usize; 3] {
        // Zero groups are caught by the check, which may come later.
        let groups = if self.config.groups == 0 { 1 } else { self.config.groups };
        [self.in_channels, self.out_channels / groups, self.kernel_size]
    }

    /// Candle's, the same for weight and bias.
    fn init(&self) -> Init {
        let bound = 1. / (self.out_channels as f64 * self.kernel_size as f64).sqrt();
        Init::Uniform { lo: -bound, up: bound }
    }

    /// Weight and bias, as candle's constructors initialise them.
    fn params(&self, source: &mut dyn ParamSource) -> Result<Affine> {
        crate::check::ensure(self.info().problem)?;
        let ConvTranspose1dConfig { padding, output_padding, stride, dilation, groups } =
            self.config;
        source.describe(&format_args!(
            "conv_transpose1d, stride {stride}, padding {padding}, output_padding {output_padding}, dilation {dilation}, groups {groups}"
        ));
        let bias = self.bias.then_some(self.out_channels);
        Affine::from_source(source, &self.dims(), bias, [self.init(); 2])
    }
}

/// The attribute's constructors.
pub mod spec {
    use super::{ConvTranspose1dConfig, ConvTranspose1dSpec};

    pub(super) const DEFAULT: ConvTranspose1dConfig =
        ConvTranspose1dConfig { padding: 0, stride: 1, dilation: 1, groups: 1, output_padding: 0 };

    /// `#[hyper(conv_transpose1d(in_channels, out_channels, kernel_size))]`.
    pub const fn conv_transpose1d(
        in_channels: usize,
        out_channels: usize,
        kernel_size: usize,
    ) -> ConvTranspose1dSpec {
        ConvTranspose1dSpec { in_channels, out_channels, kernel_size, bias: true, config: DEFAULT }
    }

    /// `#[hyper(conv_transpose1d_no_bias(in_channels, out_channels, kernel_size))]`.
    pub const fn conv_transpose1d_no_bias(
        in_channels: usize,
        out_channels: usize,
        kernel_size: usize,
    ) -> ConvTranspose1dSpec {
        ConvTranspose1dSpec { in_channels, out_channels, kernel_size, bias: false, config: DEFAULT }
    }
}

/// A one-dimensional transposed convolution, as `candle_nn::ConvTranspose1d`.
///
/// `weight` is `[in, out / groups, k]`, or `[G, in, out / groups, k]` for `G` sets; `bias`
/// `[out]` or `[G, out]`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use hypernn::nn::{ConvTranspose1d, ConvTranspose1dConfig, Module};
///
/// # fn main() -> candle_core::Result<()> {
/// // Two sets of weights, two rows: each uses its own set.
/// let weight = Tensor::new(&[1f32, 10.], &Device::Cpu)?.reshape((2, 1, 1, 1))?;
/// let layer = ConvTranspose1d::new(weight, None, ConvTranspose1dConfig::default());
/// let ys = layer.forward(&Tensor::ones((2, 1, 3), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(ys.flatten_all()?.to_vec1::<f32>()?, [1., 1., 1., 10., 10., 10.]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ConvTranspose1d {
    params: Affine,
    config: ConvTranspose1dConfig,
}

conv::layer! {
    impl ConvTranspose1d;

    /// Stride, padding, dilation and groups.
    pub fn config -> ConvTranspose1dConfig;

    weight of rank 3;

    /// A one-dimensional transposed convolution with bias; variables `weight` and `bias`.
    ///
    /// # Errors
    /// The sizes are invalid, or the builder's tensors have another shape.
    pub fn conv_transpose1d;

    /// A one-dimensional transposed convolution without bias; variable `weight`.
    ///
    /// # Errors
    /// The sizes are invalid, or the builder's tensor has another shape.
    pub fn conv_transpose1d_no_bias;
}

impl Module for ConvTranspose1d {
    /// `[B, in, L]` to `[B, out, L']`, where
    /// `L' = (L - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1`.
    ///
    /// # Errors
    /// The input has another rank or number of channels, the padding leaves nothing of the
    /// output, or the batch is not a multiple of the number of sets.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ConvTranspose1dConfig { padding, output_padding, stride, dilation, groups } =
            self.config;
        conv::Convolution {
            layer: "conv_transpose1d",
            axes: 1,
            params: &self.params,
            stride,
            padding,
            output_padding,
            dilation,
            groups,
        }
        .forward_transposed(xs)
    }
}

impl HyperLayer<ConvTranspose1dSpec> for ConvTranspose1d {
    const TAKES_SETS: bool = true;

    fn build(spec: &ConvTranspose1dSpec, source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self { params: spec.params(source)?, config: spec.config })
    }
}

impl HyperLayer<ConvTranspose1dSpec> for candle_nn::ConvTranspose1d {
    const REFUSED: Option<&'static str> =
        Some("candle_nn::ConvTranspose1d has no gradients: use hypernn::nn::ConvTranspose1d");

    fn build(spec: &ConvTranspose1dSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let (weight, bias) = spec.params(source)?.to_tensors()?;
        Ok(Self::new(weight, bias, spec.config))
    }
}
