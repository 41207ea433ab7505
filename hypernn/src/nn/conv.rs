//! What the four convolutions share.

use candle_core::{Result, Tensor};

use super::{norm, sets};
use crate::check::{Problem, first, zero};
use crate::ops::product::{product, product_transposed};
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

/// A convolution of 1 or 2 axes, ready to run.
pub(super) struct Convolution<'a> {
    pub(super) layer: &'static str,
    pub(super) axes: usize,
    pub(super) weight: &'a Tensor,
    pub(super) bias: Option<&'a Tensor>,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) output_padding: usize,
    pub(super) dilation: usize,
    pub(super) groups: usize,
}

/// The weights of all sets: `[G, rows, columns, height, width]` and `[G, out]`.
struct Weights {
    sets: usize,
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Convolution<'_> {
    /// `[B, in, …]` to `[B, out, …]`.
    pub(super) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let Weights { sets, weight, bias } = self.weights()?;
        let (_, out_channels, per_group, kernel_h, kernel_w) = weight.dims5()?;
        let images = self.images(xs, per_group * self.groups)?;
        let (batch, _, height, width) = images.dims4()?;
        self.check(per_group * self.groups, out_channels, kernel_w)?;
        let rows = sets::rows_per_set(self.layer, batch, sets)?;
        let windows = Windows {
            sets,
            groups: self.groups,
            height: self.axis(height, kernel_h, self.axes < 2)?,
            width: self.axis(width, kernel_w, false)?,
        };
        let (matrices, out_per_group) = (sets * self.groups, out_channels / self.groups);
        let weight = weight.reshape((matrices, out_per_group, per_group * kernel_h * kernel_w))?;
        let ys = product(&weight, &unfold(&images, windows)?)?;
        let ys = match bias {
            None => ys,
            Some(bias) => ys.broadcast_add(&bias.reshape((matrices, out_per_group, 1))?)?,
        };
        let (ys_h, ys_w) = (windows.height.positions, windows.width.positions);
        let ys = ys
            .reshape((sets, out_channels, rows, ys_h * ys_w))?
            .transpose(1, 2)?
            .reshape((batch, out_channels, ys_h, ys_w))?;
        if self.axes < 2 { ys.squeeze(2) } else { Ok(ys) }
    }

    /// `[B, in, …]` to `[B, out, …]`, the transpose of a convolution from `out` to `in`.
    pub(super) fn forward_transposed(&self, xs: &Tensor) -> Result<Tensor> {
        let Weights { sets, weight, bias } = self.weights()?;
        let (_, in_channels, out_per_group, kernel_h, kernel_w) = weight.dims5()?;
        let images = self.images(xs, in_channels)?;
        let (batch, _, height, width) = images.dims4()?;
        let out_channels = out_per_group * self.groups;
        self.check(in_channels, out_channels, kernel_w)?;
        let rows = sets::rows_per_set(self.layer, batch, sets)?;
        let windows = Windows {
            sets,
            groups: self.groups,
            height: self.axis_transposed(height, kernel_h, self.axes < 2)?,
            width: self.axis_transposed(width, kernel_w, false)?,
        };
        let (matrices, per_group) = (sets * self.groups, in_channels / self.groups);
        let weight = weight.reshape((matrices, per_group, out_per_group * kernel_h * kernel_w))?;
        let lines = images
            .reshape((sets, rows, in_channels, height * width))?
            .transpose(1, 2)?
            .reshape((matrices, per_group, rows * height * width))?;
        let ys = fold(&product_transposed(&weight, &lines)?, windows)?;
        let ys = add_bias(&ys, bias.as_ref())?;
        if self.axes < 2 { ys.squeeze(2) } else { Ok(ys) }
    }

    fn check(&self, in_channels: usize, out_channels: usize, kernel: usize) -> Result<()> {
        let channels = [("in_channels", in_channels), ("out_channels", out_channels)];
        let problem = check(self.layer, channels, kernel, self.stride, self.dilation, self.groups);
        crate::check::ensure(problem)
    }

    fn weights(&self) -> Result<Weights> {
        let rank = self.axes + 2;
        let bias = self.bias.map(|bias| (bias, 1));
        let all: Vec<_> = std::iter::once((self.weight, rank)).chain(bias).collect();
        let sets = sets::among(self.layer, &all)?;
        let weight = sets::spread(self.weight, rank, sets)?;
        let weight = if self.axes < 2 { weight.unsqueeze(3)? } else { weight };
        let bias = self.bias.map(|bias| sets::spread(bias, 1, sets)).transpose()?;
        Ok(Weights { sets, weight, bias })
    }

    /// The input as images, of height 1 where there is one axis.
    fn images(&self, xs: &Tensor, channels: usize) -> Result<Tensor> {
        let expected = if self.axes < 2 { "length" } else { "height, width" };
        if xs.rank() != self.axes + 2 {
            candle_core::bail!(
                "{}: the input has shape {:?}, expected [batch, channels, {expected}]",
                self.layer,
                xs.dims()
            );
        }
        if xs.dim(1)? != channels {
            candle_core::bail!(
                "{}: the input has {} channels (shape {:?}), the layer takes {channels}",
                self.layer,
                xs.dim(1)?,
                xs.dims()
            );
        }
        if self.axes < 2 { xs.unsqueeze(2) } else { Ok(xs.clone()) }
    }

    /// The window along one axis; along the height that stands in for none, it does not slide.
    fn axis(&self, pixels: usize, taps: usize, none: bool) -> Result<Axis> {
        if none {
            return Ok(STILL);
        }
        let Self { stride, padding, dilation, .. } = *self;
        let (padded, span) = (pixels + 2 * padding, dilation * (taps - 1) + 1);
        if pixels == 0 || span > padded {
            candle_core::bail!(
                "{}: the kernel spans {span} with dilation, the input only {padded} with padding",
                self.layer
            );
        }
        let positions = (padded - span) / stride + 1;
        Ok(Axis { pixels, positions, taps, stride, padding, dilation })
    }

    fn axis_transposed(&self, positions: usize, taps: usize, none: bool) -> Result<Axis> {
        if none {
            return Ok(STILL);
        }
        let Self { stride, padding, dilation, output_padding, .. } = *self;
        let span = positions.saturating_sub(1) * stride + dilation * (taps - 1) + 1;
        let span = span + output_padding;
        if positions == 0 || span <= 2 * padding {
            candle_core::bail!(
                "{}: the output spans {span}, padding {padding} on both sides leaves nothing of it",
                self.layer
            );
        }
        let pixels = span - 2 * padding;
        Ok(Axis { pixels, positions, taps, stride, padding, dilation })
    }
}

const STILL: Axis = Axis { pixels: 1, positions: 1, taps: 1, stride: 1, padding: 0, dilation: 1 };

/// Adds `[G, C]` to images `[B, C, H, W]`.
fn add_bias(images: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Some(bias) = bias else { return Ok(images.clone()) };
    let (batch, channels, height, width) = images.dims4()?;
    let by_line = norm::per_channel(bias, batch)?;
    images
        .reshape((batch * channels, height * width))?
        .broadcast_add(&by_line)?
        .reshape((batch, channels, height, width))
}
