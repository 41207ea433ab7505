//! The two-dimensional transposed convolution.

use candle_core::{Module, Result, Tensor};
use candle_nn::{ConvTranspose2dConfig, Init, VarBuilder};

use super::affine::Affine;
use super::sliding_window::SlidingWindow;
use super::{conv, sliding_window};
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::{ParamSource, VarBuilderSource};

/// What a two-dimensional transposed convolution is made of: `conv_transpose2d(in_channels, out_channels, kernel_size)`
/// in an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose2dSpec {
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    bias: bool,
    config: ConvTranspose2dConfig,
}

impl ConvTranspose2dSpec {
    /// The stride along both axes.
    #[must_use]
    pub const fn stride(mut self, stride: usize) -> Self {
        self.config.stride = stride;
        self
    }

    /// What is cut off on all four sides.
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

    /// Every setting at once, as candle's configuration has them.
    #[must_use]
    pub const fn config(mut self, config: ConvTranspose2dConfig) -> Self {
        self.config = config;
        self
    }

    /// The layer's tensors, what it takes for one sample, and what is wrong with its sizes, if anything.
    pub const fn info(&self) -> LayerInfo {
        let channels = [("in_channels", self.in_channels), ("out_channels", self.out_channels)];
        let ConvTranspose2dConfig { stride, dilation, .. } = self.config;
        let kernel = self.kernel_size;
        let problem = conv::check("conv_transpose2d", channels, kernel, stride, dilation, 1);
        let info = LayerInfo::new("conv_transpose2d")
            .checked(problem)
            .takes(sliding_window::takes::<2>(self.in_channels))
            .tensor("weight", &self.dims());
        if self.bias { info.tensor("bias", &[self.out_channels]) } else { info }
    }

    /// The shape of the output of one sample, `[out_channels, height, width]`, as the kernel makes it.
    ///
    /// # Errors
    /// The padding leaves nothing of the output.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        let ConvTranspose2dConfig { padding, output_padding, stride, dilation } = self.config;
        let taps = self.kernel_size;
        let window = SlidingWindow { taps, stride, padding, dilation, output_padding };
        window.gives::<2>(self.out_channels, input, true)
    }

    const fn dims(&self) -> [usize; 4] {
        [self.in_channels, self.out_channels, self.kernel_size, self.kernel_size]
    }

    /// Candle's, the same for weight and bias.
    fn init(&self) -> Init {
        let bound = 1. / (self.out_channels as f64).sqrt() / self.kernel_size as f64;
        Init::Uniform { lo: -bound, up: bound }
    }

    /// Weight and bias, as candle's constructors initialise them.
    fn params(&self, source: &mut dyn ParamSource) -> Result<Affine> {
        crate::check::ensure(self.info().problem)?;
        let ConvTranspose2dConfig { padding, output_padding, stride, dilation } = self.config;
        source.describe(&format_args!(
            "conv_transpose2d, stride {stride}, padding {padding}, output_padding {output_padding}, dilation {dilation}"
        ));
        let bias = self.bias.then_some(self.out_channels);
        Affine::from_source(source, &self.dims(), bias, [self.init(); 2])
    }
}

/// The attribute's constructors.
pub mod spec {
    use super::{ConvTranspose2dConfig, ConvTranspose2dSpec};

    pub(super) const DEFAULT: ConvTranspose2dConfig =
        ConvTranspose2dConfig { padding: 0, stride: 1, dilation: 1, output_padding: 0 };

    /// `#[hyper(conv_transpose2d(in_channels, out_channels, kernel_size))]`.
    pub const fn conv_transpose2d(
        in_channels: usize,
        out_channels: usize,
        kernel_size: usize,
    ) -> ConvTranspose2dSpec {
        ConvTranspose2dSpec { in_channels, out_channels, kernel_size, bias: true, config: DEFAULT }
    }

    /// `#[hyper(conv_transpose2d_no_bias(in_channels, out_channels, kernel_size))]`.
    pub const fn conv_transpose2d_no_bias(
        in_channels: usize,
        out_channels: usize,
        kernel_size: usize,
    ) -> ConvTranspose2dSpec {
        ConvTranspose2dSpec { in_channels, out_channels, kernel_size, bias: false, config: DEFAULT }
    }
}

/// A two-dimensional transposed convolution, as `candle_nn::ConvTranspose2d`.
///
/// `weight` is `[in, out, k, k]`, or `[G, in, out, k, k]` for `G` sets; `bias`
/// `[out]` or `[G, out]`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use hypernn::nn::{ConvTranspose2d, ConvTranspose2dConfig, Module};
///
/// # fn main() -> candle_core::Result<()> {
/// // Two sets of weights, two images: each image uses its own set.
/// let weight = Tensor::new(&[1f32, 10.], &Device::Cpu)?.reshape((2, 1, 1, 1, 1))?;
/// let layer = ConvTranspose2d::new(weight, None, ConvTranspose2dConfig::default());
/// let ys = layer.forward(&Tensor::ones((2, 1, 1, 3), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(ys.flatten_all()?.to_vec1::<f32>()?, [1., 1., 1., 10., 10., 10.]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ConvTranspose2d {
    params: Affine,
    config: ConvTranspose2dConfig,
}

conv::layer! {
    impl ConvTranspose2d;

    /// Stride, paddings and dilation.
    pub fn config -> ConvTranspose2dConfig;

    weight of rank 4;

    /// A two-dimensional transposed convolution with bias; variables `weight` and `bias`.
    ///
    /// # Errors
    /// The sizes are invalid, or the builder's tensors have another shape.
    pub fn conv_transpose2d;

    /// A two-dimensional transposed convolution without bias; variable `weight`.
    ///
    /// # Errors
    /// The sizes are invalid, or the builder's tensor has another shape.
    pub fn conv_transpose2d_no_bias;
}

impl Module for ConvTranspose2d {
    /// `[B, in, H, W]` to `[B, out, H', W']`, where
    /// `H' = (H - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1`, and `W'` likewise.
    ///
    /// # Errors
    /// The input has another rank or number of channels, the padding leaves nothing of the
    /// output, or the batch is not a multiple of the number of sets.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ConvTranspose2dConfig { padding, output_padding, stride, dilation } = self.config;
        conv::Convolution {
            layer: "conv_transpose2d",
            axes: 2,
            params: &self.params,
            stride,
            padding,
            output_padding,
            dilation,
            groups: 1,
        }
        .forward_transposed(xs)
    }
}

impl HyperLayer<ConvTranspose2dSpec> for ConvTranspose2d {
    const TAKES_SETS: bool = true;

    fn build(spec: &ConvTranspose2dSpec, source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self { params: spec.params(source)?, config: spec.config })
    }
}

impl HyperLayer<ConvTranspose2dSpec> for candle_nn::ConvTranspose2d {
    fn build(spec: &ConvTranspose2dSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let (weight, bias) = spec.params(source)?.to_tensors()?;
        Ok(Self::new(weight, bias, spec.config))
    }
}
