//! The gradients of a convolution whose values were computed in another way.

use candle_core::{Result, Tensor};

use super::product::{matmul, product_transposed};
use super::unfold::{Windows, fold, unfold};
use super::with_backward::with_backward;
use crate::param::Routes;

/// A convolution, or the transpose of one, over images `[B, C, H, W]`.
#[derive(Clone, Copy)]
pub(crate) struct ConvolutionKind {
    pub(crate) windows: Windows,
    pub(crate) transposed: bool,
}

/// The node of the outputs `[B, C', H', W']` of a convolution with `matrices [sets × groups, a, b]` for
/// its weight: those that columns are multiplied with, or a transposed convolution's lines.
pub(crate) fn convolved(
    layer: &'static str,
    outputs: Tensor,
    images: &Tensor,
    matrices: &Tensor,
    routes: Routes,
    kind: ConvolutionKind,
) -> Result<Tensor> {
    let (matrices, edge) = (matrices.detach(), routes.edge().clone());
    with_backward(layer, outputs, images, &edge, move |images, grad| {
        let values = images.detach();
        let (lined, unfolded) = if kind.transposed { (&values, grad) } else { (grad, &values) };
        let (lines, columns) = (kind.lines(lined)?, unfold(unfolded, kind.windows)?);
        let of_weight = matmul(&lines, &columns.t()?)?;
        let of_edge = routes.deliver(of_weight, || kind.bias_grad(grad))?;
        let of_images = || {
            if kind.transposed {
                return kind.unlined(&matmul(&matrices, &columns)?, values.dims());
            }
            fold(&product_transposed(&matrices, &lines)?, kind.windows)
        };
        Ok((images.track_op().then(of_images).transpose()?, of_edge))
    })
}

impl ConvolutionKind {
    /// Images to a line per channel, in the order of the columns:
    /// `[sets × groups, channels per group, images per set × positions]`.
    pub(crate) fn lines(&self, images: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = images.dims4()?;
        let Windows { sets, groups, .. } = self.windows;
        let columns = batch / sets * height * width;
        images.reshape((sets, batch / sets, channels, height * width))?.transpose(1, 2)?.reshape((
            sets * groups,
            channels / groups,
            columns,
        ))
    }

    /// Lines to images of these dimensions.
    pub(crate) fn unlined(&self, lines: &Tensor, images: &[usize]) -> Result<Tensor> {
        let sets = self.windows.sets;
        let [batch, channels, ref axes @ ..] = *images else {
            crate::error::bail!(
                shape,
                "convolution: images of shape {images:?}, expected four dimensions"
            );
        };
        let positions = axes.iter().product::<usize>();
        lines.reshape((sets, channels, batch / sets, positions))?.transpose(1, 2)?.reshape(images)
    }

    /// The sums over a set's images and positions, `[sets, channels]`.
    pub(super) fn bias_grad(&self, grad: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = grad.dims4()?;
        let sets = self.windows.sets;
        grad.reshape((sets, batch / sets, channels, height * width))?.sum((1, 3))
    }
}
