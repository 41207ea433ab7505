//! What the four convolutions share.

pub use super::{
    Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, ConvTranspose1d, ConvTranspose1dConfig,
    ConvTranspose2d, ConvTranspose2dConfig, conv_transpose1d, conv_transpose1d_no_bias,
    conv_transpose2d, conv_transpose2d_no_bias, conv1d, conv1d_no_bias, conv2d, conv2d_no_bias,
};

use candle_core::{Result, Tensor};

use super::affine::Affine;
use super::norm;
use super::sliding_window::SlidingWindow;
use crate::check::{self, Problem, ensure_same_dtype, sum, zero};
use crate::memory::ensure_room;
use crate::ops::convolved::{ConvolutionKind, convolved};
use crate::ops::gain::plus;
use crate::ops::product::{product, product_transposed};
use crate::ops::scalar::is_direct;
use crate::ops::unfold::{Axis, Windows, fold, unfold};
use crate::param::{Routes, sets};

/// What is wrong with the sizes of a convolution, if anything.
pub(super) const fn check(
    layer: &str,
    channels: [(&str, usize); 2],
    kernel: usize,
    stride: usize,
    dilation: usize,
    groups: usize,
) -> Option<Problem> {
    let [inputs, outputs] = channels;
    let kernel = ("kernel_size", kernel);
    let sizes =
        [inputs, outputs, kernel, ("stride", stride), ("dilation", dilation), ("groups", groups)];
    // Not a list of problems, which takes the compiler long to make.
    let mut i = 0;
    while i < sizes.len() {
        if sizes[i].1 == 0 {
            return zero(layer, sizes[i].0, 0);
        }
        i += 1;
    }
    match divides(layer, groups, inputs.0, inputs.1) {
        None => divides(layer, groups, outputs.0, outputs.1),
        problem => problem,
    }
}

/// The problem of groups that do not share out the channels evenly.
pub(super) const fn divides(
    layer: &str,
    groups: usize,
    name: &str,
    channels: usize,
) -> Option<Problem> {
    if groups == 0 || channels.is_multiple_of(groups) {
        return None;
    }
    let problem = Problem::new(layer).text(": groups ").number(groups);
    Some(problem.text(" does not divide ").text(name).text(" ").number(channels))
}

/// What the four layers have alike beside their specs and forwards: `new` and the accessors, how
/// their tensors and those of candle's own layers are visited, and candle's two constructors, named
/// like those in `spec`.
///
/// A macro, since neither inherent methods nor such functions can come from a trait; its names are
/// those the layer's file imports. What differs stays in that file, and so do the specs and the
/// impls of `HyperLayer`, which the compiler quotes where an attribute does not fit its field.
macro_rules! layer {
    (
        impl $Layer:ident;

        $(#[$config_doc:meta])*
        pub fn config -> $Config:ident;

        weight of rank $rank:literal;

        $(
            $(#[$constructor_doc:meta])*
            pub fn $constructor:ident;
        )+
    ) => {
        impl $Layer {
            /// A layer over existing tensors.
            pub fn new(weight: Tensor, bias: Option<Tensor>, config: $Config) -> Self {
                Self { params: Affine::new(weight, bias), config }
            }

            $(#[$config_doc])*
            pub fn config(&self) -> &$Config {
                &self.config
            }

            /// The weight, with what a low-rank adapter adds to it; computed when it is first asked for.
            pub fn weight(&self) -> &Tensor {
                self.params.weight.shown($rank)
            }

            /// The bias, `[out]`, or `[G, out]` for `G` sets; none in a layer without one.
            pub fn bias(&self) -> Option<&Tensor> {
                self.params.shown_bias()
            }
        }

        impl Parameters for $Layer {
            fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
                self.params.visit(visitor)
            }

            fn reused(&self, name: &str) -> Result<Option<crate::param::Param>> {
                self.params.reused(name)
            }
        }

        impl Parameters for candle_nn::$Layer {
            fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
                visitor("weight", self.weight())?;
                self.bias().map_or(Ok(()), |bias| visitor("bias", bias))
            }
        }

        $(
            $(#[$constructor_doc])*
            pub fn $constructor(
                in_channels: usize,
                out_channels: usize,
                kernel_size: usize,
                cfg: $Config,
                vb: VarBuilder<'_>,
            ) -> Result<$Layer> {
                let spec = spec::$constructor(in_channels, out_channels, kernel_size).config(cfg);
                $Layer::build(&spec, &mut VarBuilderSource::new(vb))
            }
        )+
    };
}
pub(super) use layer;

/// A convolution of 1 or 2 axes, ready to run.
#[derive(Clone, Copy)]
pub(super) struct Convolution<'a> {
    pub(super) layer: &'static str,
    pub(super) axes: usize,
    pub(super) params: &'a Affine,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) output_padding: usize,
    pub(super) dilation: usize,
    pub(super) groups: usize,
}

/// The weights of all sets: `[G, a, b, height, width]` and `[G, out]`.
struct Weights {
    sets: usize,
    params: Affine,
}

impl Weights {
    fn weight(&self) -> &Tensor {
        self.params.weight()
    }

    /// Kernels as plain tensors, for operations that know no routes.
    fn collected(&self) -> Result<Self> {
        Ok(Self { sets: self.sets, params: self.params.collected()? })
    }

    /// Kernels that no gradient flows to.
    fn detach(&self) -> Self {
        let bias = self.params.bias().map(Tensor::detach);
        Self { sets: self.sets, params: Affine::new(self.weight().detach(), bias) }
    }

    /// A matrix per set and group: `[G × groups, a / groups, b × height × width]`.
    fn matrices(&self, groups: usize) -> Result<Tensor> {
        let (sets, a, b, height, width) = self.weight().dims5()?;
        self.weight().reshape((sets * groups, a / groups, b * height * width))
    }
}

impl Convolution<'_> {
    /// `[B, in, …]` to `[B, out, …]`.
    pub(super) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let weights = self.weights()?;
        let (_, out_channels, per_group, ..) = weights.weight().dims5()?;
        let images = self.images(xs, &weights, [per_group * self.groups, out_channels])?;
        let windows = self.windows(&weights, &images, Self::axis)?;
        let ys = if is_direct(&images) {
            weights.params.convolution(&images, windows)?
        } else {
            self.by_operations(&images, &weights, ConvolutionKind { windows, transposed: false })?
        };
        if self.axes < 2 { ys.squeeze(2) } else { Ok(ys) }
    }

    /// `[B, in, …]` to `[B, out, …]`, the transpose of a convolution from `out` to `in`.
    pub(super) fn forward_transposed(&self, xs: &Tensor) -> Result<Tensor> {
        let weights = self.weights()?;
        let (_, in_channels, per_group, ..) = weights.weight().dims5()?;
        let images = self.images(xs, &weights, [in_channels, per_group * self.groups])?;
        let windows = self.windows(&weights, &images, Self::axis_transposed)?;
        let kind = ConvolutionKind { windows, transposed: true };
        let ys = if is_direct(&images) && !weights.params.weight.is_view() {
            composed(&images, &weights.collected()?, kind)?
        } else {
            self.by_operations(&images, &weights, kind)?
        };
        if self.axes < 2 { ys.squeeze(2) } else { Ok(ys) }
    }

    /// Where each operation is a launch, and in half precision: views of generated weights are used as
    /// they are.
    fn by_operations(
        &self,
        images: &Tensor,
        weights: &Weights,
        kind: ConvolutionKind,
    ) -> Result<Tensor> {
        if let Some(routes) = Routes::of(&weights.params.weight, weights.params.bias.as_ref()) {
            let ys = self.values(&images.detach(), &weights.detach(), kind)?;
            let matrices = weights.matrices(self.groups)?;
            return convolved(self.layer, ys, images, &matrices, routes, kind);
        }
        let weights = weights.collected()?;
        let params = [Some(images), Some(weights.weight()), weights.params.bias()];
        if params.into_iter().flatten().any(Tensor::track_op) {
            return composed(images, &weights, kind);
        }
        self.values(images, &weights, kind)
    }

    /// Without gradients, which candle's own convolutions give an error for at some strides: by its
    /// kernels, where those serve. It runs one group after the other, has no half precision on the CPU,
    /// and its transposed convolution of one axis is wrong for more than one row.
    fn values(&self, images: &Tensor, weights: &Weights, kind: ConvolutionKind) -> Result<Tensor> {
        let serves = weights.sets * self.groups == 1 && (self.axes == 2 || !kind.transposed);
        if images.device().is_cpu() || !serves {
            return composed(images, weights, kind);
        }
        let ys = self.by_candle(images, weights.weight(), kind.transposed)?;
        add_to_channels(&ys, weights.params.bias())
    }

    /// One set and one group, without a bias.
    fn by_candle(&self, images: &Tensor, weight: &Tensor, transposed: bool) -> Result<Tensor> {
        let Self { stride, padding, output_padding, dilation, .. } = *self;
        let (images, weight) = (images.contiguous()?, weight.squeeze(0)?.contiguous()?);
        match (self.axes, transposed) {
            (2, false) => images.conv2d(&weight, padding, stride, dilation, 1),
            (2, true) => {
                images.conv_transpose2d(&weight, padding, output_padding, stride, dilation)
            }
            _ => {
                let (lines, weight) = (images.squeeze(2)?, weight.squeeze(2)?);
                lines.conv1d(&weight, padding, stride, dilation, 1)?.unsqueeze(2)
            }
        }
    }

    /// The windows over images, along each axis as `axis` says.
    fn windows(
        &self,
        weights: &Weights,
        images: &Tensor,
        axis: impl Fn(&Self, usize, usize, bool) -> Result<Axis>,
    ) -> Result<Windows> {
        let (_, _, _, kernel_h, kernel_w) = weights.weight().dims5()?;
        let (_, _, height, width) = images.dims4()?;
        let windows = Windows {
            sets: weights.sets,
            groups: self.groups,
            height: axis(self, height, kernel_h, self.axes < 2)?,
            width: axis(self, width, kernel_w, false)?,
        };
        self.ensure_room(weights, images, windows)?;
        Ok(windows)
    }

    /// A small input can have a large output, or large margins that no window sees.
    fn ensure_room(&self, weights: &Weights, images: &Tensor, windows: Windows) -> Result<()> {
        let (batch, channels, ..) = images.dims4()?;
        let (_, a, b, ..) = weights.weight().dims5()?;
        let (dtype, device) = (images.dtype(), images.device());
        let frame = |axis: Axis| sum(&[axis.pixels, axis.padding, axis.padding]);
        let frame = [channels, frame(windows.height), frame(windows.width)];
        ensure_room(
            || format!("{}: an image between its zeros", self.layer),
            &frame,
            dtype,
            device,
        )?;
        let (height, width) = (windows.height, windows.width);
        let output = [
            batch,
            a.max(check::product(&[b, self.groups])),
            height.positions.max(height.pixels),
            width.positions.max(width.pixels),
        ];
        ensure_room(|| format!("{}: the output", self.layer), &output, dtype, device)
    }

    fn weights(&self) -> Result<Weights> {
        let rank = self.axes + 2;
        let sets = self.params.sets(self.layer, rank)?;
        let mut params = self.params.spread(rank, sets)?;
        if self.axes < 2 {
            params.weight = params.weight.reshaped(|weight| weight.unsqueeze(3))?;
        }
        Ok(Weights { sets, params })
    }

    /// The input as images, of height 1 where there is one axis; checks what fits together.
    fn images(&self, xs: &Tensor, weights: &Weights, channels: [usize; 2]) -> Result<Tensor> {
        let [in_channels, out_channels] = channels;
        self.check_input(xs, in_channels)?;
        let named = [("in_channels", in_channels), ("out_channels", out_channels)];
        let Self { layer, stride, dilation, groups, .. } = *self;
        let kernel = weights.weight().dim(3)?.min(weights.weight().dim(4)?);
        crate::check::ensure(check(layer, named, kernel, stride, dilation, groups))?;
        sets::rows_per_set(layer, xs.dim(0)?, weights.sets)?;
        self.check_bias(out_channels)?;
        if self.axes < 2 { xs.unsqueeze(2) } else { Ok(xs.clone()) }
    }

    /// A bias of another length would be read past its end, or only in part.
    fn check_bias(&self, channels: usize) -> Result<()> {
        let Some(bias) = &self.params.bias else { return Ok(()) };
        let shape = bias.dims();
        if shape.last() != Some(&channels) {
            crate::error::bail!(
                shape,
                "{}: the bias has shape {shape:?}, expected one value for each of {channels} output channels",
                self.layer
            );
        }
        Ok(())
    }

    fn check_input(&self, xs: &Tensor, channels: usize) -> Result<()> {
        let (layer, shape) = (self.layer, xs.dims());
        if xs.rank() != self.axes + 2 {
            let axes = if self.axes < 2 { "length" } else { "height, width" };
            crate::error::bail!(
                shape,
                "{layer}: the input has shape {shape:?}, expected [batch, channels, {axes}]"
            );
        }
        if shape[1] != channels {
            crate::error::bail!(
                shape,
                "{layer}: the input has {} channels (shape {shape:?}), the layer takes {channels}",
                shape[1]
            );
        }
        let of_weight = self.params.weight.dtype();
        ensure_same_dtype(layer, "the input", xs.dtype(), "the weight", of_weight)
    }

    fn slide(&self, taps: usize) -> SlidingWindow {
        let Self { stride, padding, dilation, output_padding, .. } = *self;
        SlidingWindow { taps, stride, padding, dilation, output_padding }
    }

    fn slid(&self, length: std::result::Result<usize, Problem>) -> Result<usize> {
        length.map_err(|problem| {
            crate::error::shape(format!("{}: {}", self.layer, problem.message()))
        })
    }

    /// The window along one axis; along the height that stands in for none, it does not slide.
    fn axis(&self, pixels: usize, taps: usize, none: bool) -> Result<Axis> {
        if none {
            return Ok(STILL);
        }
        let positions = self.slid(self.slide(taps).positions(pixels))?;
        Ok(self.axis_of(pixels, positions, taps))
    }

    fn axis_transposed(&self, positions: usize, taps: usize, none: bool) -> Result<Axis> {
        if none {
            return Ok(STILL);
        }
        let pixels = self.slid(self.slide(taps).pixels(positions))?;
        Ok(self.axis_of(pixels, positions, taps))
    }

    /// A stride or a dilation beyond the padded pixels is that of a single window, or of a single tap, where
    /// any other does as well: these numbers are multiplied and counted to later.
    fn axis_of(&self, pixels: usize, positions: usize, taps: usize) -> Axis {
        let Self { padding, .. } = *self;
        let padded = pixels + 2 * padding;
        let (stride, dilation) = (self.stride.min(padded), self.dilation.min(padded));
        Axis { pixels, positions, taps, stride, padding, dilation }
    }
}

/// A convolution as one product with unfolded columns, a transposed one as a product that is folded.
fn composed(images: &Tensor, weights: &Weights, kind: ConvolutionKind) -> Result<Tensor> {
    let (windows, bias) = (kind.windows, weights.params.bias());
    let matrices = weights.matrices(windows.groups)?;
    if kind.transposed {
        let columns = product_transposed(&matrices, &kind.lines(images)?)?;
        return add_to_channels(&fold(&columns, windows)?, bias);
    }
    let ys = product(&matrices, &unfold(images, windows)?)?;
    let (matrices, lines, _) = ys.dims3()?;
    let ys = match bias {
        None => ys,
        Some(bias) => plus("convolution", &ys, &bias.reshape((matrices, lines, 1))?)?,
    };
    let Windows { sets, height, width, .. } = windows;
    let channels = matrices / sets * lines;
    kind.unlined(&ys, &[images.dim(0)?, channels, height.positions, width.positions])
}

const STILL: Axis = Axis { pixels: 1, positions: 1, taps: 1, stride: 1, padding: 0, dilation: 1 };

/// Adds `[G, C]` to images `[B, C, H, W]`.
fn add_to_channels(images: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Some(bias) = bias else { return Ok(images.clone()) };
    let (batch, channels, height, width) = images.dims4()?;
    if !images.device().is_cpu() && bias.dim(0)? == 1 {
        return plus("convolution", images, &bias.reshape((1, channels, 1, 1))?);
    }
    let by_line = norm::per_channel(bias, batch)?;
    let lines = images.reshape((batch * channels, height * width))?;
    plus("convolution", &lines, &by_line)?.reshape((batch, channels, height, width))
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::testing::{device, distance, numbers};
    use super::*;

    fn variable(dims: &[usize], seed: u64) -> Result<Var> {
        let values = numbers(dims.iter().product(), seed);
        Var::from_vec(values, dims, device())
    }

    fn tensor(variable: &Var) -> Tensor {
        variable.as_tensor().clone()
    }

    /// Devices and half-precision take this way.
    #[test]
    fn the_composed_convolution_is_the_direct_one() -> Result<()> {
        if !device().is_cpu() {
            return Ok(()); // The direct one is of the CPU.
        }
        for (sets, groups, stride) in [(1, 1, 1), (2, 1, 2), (3, 2, 1)] {
            let weight = variable(&[sets, 4, 4 / groups, 3, 3], 1)?;
            let (bias, images) = (variable(&[sets, 4], 2)?, variable(&[6, 4, 6, 7], 3)?);
            let params = Affine::new(tensor(&weight), Some(tensor(&bias)));
            let layer = Convolution { groups, ..layer(&params, 2, stride) };
            let weights = layer.weights()?;
            let windows = layer.windows(&weights, &images, Convolution::axis)?;
            let direct = weights.params.convolution(&images, windows)?;
            let other =
                composed(&images, &weights, ConvolutionKind { windows, transposed: false })?;
            assert!(distance(&direct, &other)? < 1e-12);
            let grads = [&direct, &other].map(|ys| ys.sqr()?.sum_all()?.backward());
            let [direct, other] = grads;
            let (direct, other) = (direct?, other?);
            for variable in [&weight, &bias, &images] {
                match (direct.get(variable), other.get(variable)) {
                    (Some(direct), Some(other)) => assert!(distance(direct, other)? < 1e-12),
                    _ => candle_core::bail!("a gradient is missing"),
                }
            }
        }
        Ok(())
    }

    fn layer(params: &Affine, axes: usize, stride: usize) -> Convolution<'_> {
        Convolution {
            layer: "conv",
            axes,
            params,
            stride,
            padding: 1,
            output_padding: 0,
            dilation: 2,
            groups: 1,
        }
    }

    /// candle's kernels, which give the values on devices, give those of the other ways.
    #[test]
    fn candles_kernels_give_the_composed_convolution() -> Result<()> {
        for (axes, stride, transposed) in
            [(2, 1, false), (2, 2, false), (2, 1, true), (2, 2, true), (1, 1, false), (1, 2, false)]
        {
            let dims = [&[2, 2][..], &[3, 3][..axes]].concat();
            let params = Affine::new(tensor(&variable(&dims, 1)?), None);
            let layer = layer(&params, axes, stride);
            let weights = layer.weights()?;
            let input = variable(&[&[3, 2][..], &[6, 7][..axes]].concat(), 2)?;
            let images = layer.images(&input, &weights, [2, 2])?;
            let axis = if transposed { Convolution::axis_transposed } else { Convolution::axis };
            let windows = layer.windows(&weights, &images, axis)?;
            let found = layer.by_candle(&images, weights.weight(), transposed)?;
            let expected = composed(&images, &weights, ConvolutionKind { windows, transposed })?;
            assert!(distance(&found, &expected)? < 1e-12);
        }
        Ok(())
    }
}
