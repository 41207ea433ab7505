//! What the four convolutions share.

use candle_core::{Result, Tensor};

use super::affine::Affine;
use super::slide::Slide;
use super::{norm, sets};
use crate::check::{Problem, first, zero};
use crate::ops::convolved::add_bias;
use crate::ops::product::{product, product_transposed};
use crate::ops::scalar::is_direct;
use crate::ops::unfold::{Axis, Windows, fold, unfold};

/// What is wrong with the sizes of a convolution, if anything.
pub(super) const fn check(
    layer: &str,
    channels: [(&str, usize); 2],
    kernel: usize,
    stride: usize,
    dilation: usize,
    groups: usize,
) -> Option<Problem> {
    first(&[
        zero(layer, channels[0].0, channels[0].1),
        zero(layer, channels[1].0, channels[1].1),
        zero(layer, "kernel_size", kernel),
        zero(layer, "stride", stride),
        zero(layer, "dilation", dilation),
        zero(layer, "groups", groups),
        divides(layer, groups, channels[0].0, channels[0].1),
        divides(layer, groups, channels[1].0, channels[1].1),
    ])
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

            /// The weight.
            pub fn weight(&self) -> &Tensor {
                self.params.weight()
            }

            /// The bias.
            pub fn bias(&self) -> Option<&Tensor> {
                self.params.bias()
            }
        }

        impl Parameters for $Layer {
            fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
                self.params.visit(visitor)
            }

            fn reused(&self, name: &str) -> Result<Option<Tensor>> {
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

    /// The same for operations that know no sinks.
    fn tracked(&self) -> Result<Self> {
        Ok(Self { sets: self.sets, params: self.params.tracked()? })
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
        } else if images.device().is_cpu() {
            // candle's own convolution has no half precision there.
            composed(&images, &weights.tracked()?, windows)?
        } else {
            self.on_device(&images, &weights, windows)?
        };
        if self.axes < 2 { ys.squeeze(2) } else { Ok(ys) }
    }

    /// Where each operation is a launch: by candle's own kernels where those serve, which is one set
    /// and one group, without gradients or with sinks for them. candle's own backward gives an error
    /// for some strides.
    fn on_device(&self, images: &Tensor, weights: &Weights, windows: Windows) -> Result<Tensor> {
        let (weight, bias) = (weights.weight(), weights.params.bias());
        if weights.sets * self.groups != 1 {
            return composed(images, &weights.tracked()?, windows);
        }
        if let Some((weight_sink, bias_sink)) = weights.params.sinks() {
            let ys = self.by_candle(images, weight)?;
            return add_bias(&ys, images, (weight, weight_sink), bias.zip(bias_sink), windows);
        }
        if [Some(images), Some(weight), bias].into_iter().flatten().any(Tensor::track_op) {
            return composed(images, &weights.tracked()?, windows);
        }
        add_to_channels(&self.by_candle(images, weight)?, bias)
    }

    /// One set and one group, without a bias.
    fn by_candle(&self, images: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let Self { stride, padding, dilation, .. } = *self;
        let (images, weight) = (images.detach().contiguous()?, weight.detach().squeeze(0)?);
        let weight = weight.contiguous()?;
        if self.axes == 2 {
            return images.conv2d(&weight, padding, stride, dilation, 1);
        }
        let (lines, weight) = (images.squeeze(2)?, weight.squeeze(2)?);
        lines.conv1d(&weight, padding, stride, dilation, 1)?.unsqueeze(2)
    }

    /// `[B, in, …]` to `[B, out, …]`, the transpose of a convolution from `out` to `in`.
    pub(super) fn forward_transposed(&self, xs: &Tensor) -> Result<Tensor> {
        let weights = self.weights()?.tracked()?;
        let (_, in_channels, per_group, ..) = weights.weight().dims5()?;
        let images = self.images(xs, &weights, [in_channels, per_group * self.groups])?;
        let windows = self.windows(&weights, &images, Self::axis_transposed)?;
        let (batch, _, height, width) = images.dims4()?;
        let (matrices, rows) = (weights.sets * self.groups, batch / weights.sets);
        let lines = images
            .reshape((weights.sets, rows, in_channels, height * width))?
            .transpose(1, 2)?
            .reshape((matrices, in_channels / self.groups, rows * height * width))?;
        let columns = product_transposed(&weights.matrices(self.groups)?, &lines)?;
        let ys = add_to_channels(&fold(&columns, windows)?, weights.params.bias())?;
        if self.axes < 2 { ys.squeeze(2) } else { Ok(ys) }
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
        Ok(Windows {
            sets: weights.sets,
            groups: self.groups,
            height: axis(self, height, kernel_h, self.axes < 2)?,
            width: axis(self, width, kernel_w, false)?,
        })
    }

    fn weights(&self) -> Result<Weights> {
        let rank = self.axes + 2;
        let Affine { weight, bias, .. } = self.params;
        let of_bias = bias.as_ref().map(|bias| (&bias.tensor, 1));
        let sets = sets::among(self.layer, std::iter::once((&weight.tensor, rank)).chain(of_bias))?;
        let mut weight = weight.spread(rank, sets)?;
        if self.axes < 2 {
            weight.tensor = weight.tensor.unsqueeze(3)?;
        }
        let bias = bias.as_ref().map(|bias| bias.spread(1, sets)).transpose()?;
        Ok(Weights { sets, params: Affine { weight, bias, adapter: None } })
    }

    /// The input as images, of height 1 where there is one axis; checks what fits together.
    fn images(&self, xs: &Tensor, weights: &Weights, channels: [usize; 2]) -> Result<Tensor> {
        let [in_channels, out_channels] = channels;
        self.check_input(xs, in_channels)?;
        let named = [("in_channels", in_channels), ("out_channels", out_channels)];
        let (kernel, Self { layer, stride, dilation, groups, .. }) =
            (weights.weight().dim(4)?, *self);
        crate::check::ensure(check(layer, named, kernel, stride, dilation, groups))?;
        sets::rows_per_set(layer, xs.dim(0)?, weights.sets)?;
        if self.axes < 2 { xs.unsqueeze(2) } else { Ok(xs.clone()) }
    }

    fn check_input(&self, xs: &Tensor, channels: usize) -> Result<()> {
        let (layer, shape) = (self.layer, xs.dims());
        if xs.rank() != self.axes + 2 {
            let axes = if self.axes < 2 { "length" } else { "height, width" };
            candle_core::bail!(
                "{layer}: the input has shape {shape:?}, expected [batch, channels, {axes}]"
            );
        }
        if shape[1] != channels {
            candle_core::bail!(
                "{layer}: the input has {} channels (shape {shape:?}), the layer takes {channels}",
                shape[1]
            );
        }
        Ok(())
    }

    fn slide(&self, taps: usize) -> Slide {
        let Self { stride, padding, dilation, output_padding, .. } = *self;
        Slide { taps, stride, padding, dilation, output_padding }
    }

    fn slid(&self, length: std::result::Result<usize, Problem>) -> Result<usize> {
        length.map_err(|problem| {
            candle_core::Error::msg(format!("{}: {}", self.layer, problem.message()))
        })
    }

    /// The window along one axis; along the height that stands in for none, it does not slide.
    fn axis(&self, pixels: usize, taps: usize, none: bool) -> Result<Axis> {
        if none {
            return Ok(STILL);
        }
        let Self { stride, padding, dilation, .. } = *self;
        let positions = self.slid(self.slide(taps).positions(pixels))?;
        Ok(Axis { pixels, positions, taps, stride, padding, dilation })
    }

    fn axis_transposed(&self, positions: usize, taps: usize, none: bool) -> Result<Axis> {
        if none {
            return Ok(STILL);
        }
        let Self { stride, padding, dilation, .. } = *self;
        let pixels = self.slid(self.slide(taps).pixels(positions))?;
        Ok(Axis { pixels, positions, taps, stride, padding, dilation })
    }
}

/// A convolution as one product with unfolded columns.
fn composed(images: &Tensor, weights: &Weights, windows: Windows) -> Result<Tensor> {
    let (sets, out_channels, ..) = weights.weight().dims5()?;
    let (batch, groups) = (images.dim(0)?, windows.groups);
    let ys = product(&weights.matrices(groups)?, &unfold(images, windows)?)?;
    let ys = match weights.params.bias() {
        None => ys,
        Some(bias) => {
            ys.broadcast_add(&bias.reshape((sets * groups, out_channels / groups, 1))?)?
        }
    };
    let (height, width) = (windows.height.positions, windows.width.positions);
    ys.reshape((sets, out_channels, batch / sets, height * width))?.transpose(1, 2)?.reshape((
        batch,
        out_channels,
        height,
        width,
    ))
}

const STILL: Axis = Axis { pixels: 1, positions: 1, taps: 1, stride: 1, padding: 0, dilation: 1 };

/// Adds `[G, C]` to images `[B, C, H, W]`.
fn add_to_channels(images: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Some(bias) = bias else { return Ok(images.clone()) };
    let (batch, channels, height, width) = images.dims4()?;
    if !images.device().is_cpu() && bias.dim(0)? == 1 {
        return images.broadcast_add(&bias.reshape((1, channels, 1, 1))?);
    }
    let by_line = norm::per_channel(bias, batch)?;
    images
        .reshape((batch * channels, height * width))?
        .broadcast_add(&by_line)?
        .reshape((batch, channels, height, width))
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::testing::{distance, numbers};
    use super::*;
    use crate::ops::split::{Pattern, Segment, split};
    use crate::target::source::Served;

    fn variable(dims: &[usize], seed: u64) -> Result<Var> {
        let values = numbers(dims.iter().product(), seed);
        Var::from_vec(values, dims, &candle_core::Device::Cpu)
    }

    fn tensor(variable: &Var) -> Tensor {
        variable.as_tensor().clone()
    }

    /// Devices and half-precision take this way.
    #[test]
    fn the_composed_convolution_is_the_direct_one() -> Result<()> {
        for (sets, groups, stride) in [(1, 1, 1), (2, 1, 2), (3, 2, 1)] {
            let weight = variable(&[sets, 4, 4 / groups, 3, 3], 1)?;
            let (bias, images) = (variable(&[sets, 4], 2)?, variable(&[6, 4, 6, 7], 3)?);
            let params = Affine::new(tensor(&weight), Some(tensor(&bias)));
            let layer = Convolution {
                layer: "conv2d",
                axes: 2,
                params: &params,
                stride,
                padding: 1,
                output_padding: 0,
                dilation: 1,
                groups,
            };
            let weights = layer.weights()?;
            let windows = layer.windows(&weights, &images, Convolution::axis)?;
            let direct = weights.params.convolution(&images, windows)?;
            let other = composed(&images, &weights, windows)?;
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

    /// A weight of these dimensions and perhaps a bias, cut from generated parameters.
    fn generated(values: &Tensor, dims: &[usize], bias: bool) -> Result<Affine> {
        let len = dims.iter().product();
        let segment =
            |offset, dims: &[usize]| Segment { offset, dims: dims.to_vec(), scale: 0.5, shift: 0. };
        let segments = [segment(0, dims), segment(len, &dims[..1])];
        let cuts = split(&values.clone().into(), None, &Pattern::new(segments.into_iter()))?;
        let served = |index: usize| {
            let (tensor, sink) = (cuts.tensors[index].clone(), cuts.sinks.get(index).cloned());
            Served { tensor, sink }
        };
        Ok(Affine { weight: served(0), bias: bias.then(|| served(1)), adapter: None })
    }

    /// What two convolutions over the same weights give; the first as on a device.
    fn both(params: &Affine, axes: usize, stride: usize, input: &Tensor) -> Result<[Tensor; 2]> {
        let layer = Convolution {
            layer: "conv",
            axes,
            params,
            stride,
            padding: 1,
            output_padding: 0,
            dilation: 2,
            groups: 1,
        };
        let weights = layer.weights()?;
        let images = layer.images(input, &weights, [2, 4])?;
        let windows = layer.windows(&weights, &images, Convolution::axis)?;
        let found = layer.on_device(&images, &weights, windows)?;
        Ok([if axes < 2 { found.squeeze(2)? } else { found }, layer.forward(input)?])
    }

    const KINDS: [(&[usize], usize, bool); 5] = [
        (&[4, 2, 3, 3], 1, true),
        (&[4, 2, 3, 3], 2, true),
        (&[4, 2, 3, 3], 1, false),
        (&[4, 2, 3], 1, true),
        (&[4, 2, 3], 2, false),
    ];

    /// Generated weights of one set take candle's kernels on devices: values and gradients are those of
    /// the direct convolution, for strides too whose remainder candle's own backward does not take.
    #[test]
    fn candles_kernels_give_the_direct_convolution() -> Result<()> {
        for (dims, stride, bias) in KINDS {
            let (axes, len) = (dims.len() - 2, dims.iter().product::<usize>());
            let values = variable(&[len + 4], 1)?;
            let images = variable(&[&[3, 2][..], &[6, 7][..axes]].concat(), 2)?;
            let params = generated(&values, dims, bias)?;
            let [found, expected] = both(&params, axes, stride, &images)?;
            assert!(distance(&found, &expected)? < 1e-12);
            let grads = [&found, &expected].map(|ys| ys.sqr()?.sum_all()?.backward());
            let [found, expected] = grads;
            let (found, expected) = (found?, expected?);
            for variable in [&values, &images] {
                match (found.get(variable), expected.get(variable)) {
                    (Some(found), Some(expected)) => assert!(distance(found, expected)? < 1e-12),
                    _ => candle_core::bail!("a gradient is missing"),
                }
            }
            let params = generated(&values.as_detached_tensor(), dims, bias)?;
            let [found, expected] = both(&params, axes, stride, &images.as_detached_tensor())?;
            assert!(!found.track_op() && distance(&found, &expected)? < 1e-12);
        }
        Ok(())
    }
}
