//! A convolution where each operation is a launch: candle's kernels give the values, products the
//! gradients.
//!
//! By hand it would be candle's convolution and the addition of the bias. That addition is the node of
//! the graph here, so that generated weights need no copy of their own for the sake of their gradients.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp3, Error, Layout, MetalStorage, Result, Shape, Storage,
    Tensor, bail, op,
};

use super::product::product_transposed;
use super::split::Sink;
use super::unfold::{Windows, fold, unfold};

/// Adds the bias `[1, out]` to the outputs `[B, out, H', W']` of a convolution of one set and one group
/// over `images [B, C, H, W]` with `weight [1, out, C, height, width]`, and takes the gradients of all
/// three to be the convolution's. Without a bias, the outputs are copied.
pub(crate) fn add_bias(
    outputs: &Tensor,
    images: &Tensor,
    (weight, weight_sink): (&Tensor, Sink),
    bias: Option<(&Tensor, Sink)>,
    windows: Windows,
) -> Result<Tensor> {
    let below = weight_sink.below().clone();
    let contiguous =
        |(bias, sink): (&Tensor, Sink)| Ok::<_, Error>((bias.detach().contiguous()?, sink));
    let bias = bias.map(contiguous).transpose()?;
    let node = AddBias { weight: weight.detach(), weight_sink, bias, windows };
    outputs.detach().contiguous()?.apply_op3(images, &below, node)
}

struct AddBias {
    weight: Tensor,
    weight_sink: Sink,
    bias: Option<(Tensor, Sink)>,
    windows: Windows,
}

/// The forward on one kind of storage.
macro_rules! forward {
    ($self:ident, $kind:ident, $outputs:ident, $layout:ident) => {{
        let Some((bias, _)) = &$self.bias else {
            return Ok(($outputs.affine($layout, 1., 0.)?, $layout.shape().clone()));
        };
        let (storage, bias_layout) = bias.storage_and_layout();
        let Storage::$kind(bias) = &*storage else {
            bail!("convolution: the bias is on another device than the weight");
        };
        add($outputs, $layout, bias, bias_layout)
    }};
}

fn add<S: BackendStorage>(
    outputs: &S,
    layout: &Layout,
    bias: &S,
    bias_layout: &Layout,
) -> Result<(S, Shape)> {
    let channels = (1, layout.dims()[1], 1, 1);
    let bias_layout = Layout::contiguous_with_offset(channels, bias_layout.start_offset());
    let bias_layout = bias_layout.broadcast_as(layout.shape())?;
    Ok((outputs.binary_impl::<op::Add>(bias, layout, &bias_layout)?, layout.shape().clone()))
}

impl CustomOp3 for AddBias {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn cpu_fwd(
        &self,
        outputs: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward!(self, Cpu, outputs, layout)
    }

    fn cuda_fwd(
        &self,
        outputs: &CudaStorage,
        layout: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        forward!(self, Cuda, outputs, layout)
    }

    fn metal_fwd(
        &self,
        outputs: &MetalStorage,
        layout: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        forward!(self, Metal, outputs, layout)
    }

    fn bwd(
        &self,
        _: &Tensor,
        images: &Tensor,
        _below: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (batch, channels, height, width) = grad.dims4()?;
        // A line per output channel, in the order of the columns.
        let lines = grad.transpose(0, 1)?.reshape((1, channels, batch * height * width))?;
        let columns = unfold(&images.detach(), self.windows)?;
        let mut token = self.weight_sink.file(lines.matmul(&columns.t()?)?)?;
        if let Some((_, sink)) = &self.bias {
            token = sink.file(lines.sum(2)?)?.or(token);
        }
        Ok((None, self.images_grad(images, &lines)?, token))
    }
}

impl AddBias {
    fn images_grad(&self, images: &Tensor, lines: &Tensor) -> Result<Option<Tensor>> {
        if !images.track_op() {
            return Ok(None);
        }
        let (_, outputs, channels, height, width) = self.weight.dims5()?;
        let matrix = self.weight.reshape((1, outputs, channels * height * width))?;
        fold(&product_transposed(&matrix, lines)?, self.windows).map(Some)
    }
}
