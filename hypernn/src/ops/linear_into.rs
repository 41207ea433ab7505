//! `y = x wᵀ + b` over generated weights, whose gradients go straight to where they are collected.

use candle_core::{
    CpuStorage, CudaStorage, CustomOp3, Layout, MetalStorage, Result, Shape, Storage, Tensor,
};

use super::linear::{Backward, Sizes};
use super::second_order::ensure_detached;
use super::split::Sink;

/// As [`linear`](super::linear::linear), for a weight and a bias with sinks.
pub(crate) fn linear_into(
    xs: &Tensor,
    (weight, weight_sink): (&Tensor, Sink),
    bias: Option<(&Tensor, Sink)>,
) -> Result<Tensor> {
    let below = weight_sink.below().clone();
    let bias =
        bias.map(|(bias, sink)| Ok::<_, candle_core::Error>((bias.detach().contiguous()?, sink)));
    let node = LinearInto { weight: weight_sink, bias: bias.transpose()? };
    xs.contiguous()?.apply_op3(&weight.detach().contiguous()?, &below, node)
}

struct LinearInto {
    weight: Sink,
    bias: Option<(Tensor, Sink)>,
}

/// The forward on one kind of storage: `$outputs` computes it with the storage and layout of the bias, if
/// any.
macro_rules! forward {
    ($self:ident, $kind:ident, ($xl:ident, $wl:ident), $outputs:expr) => {{
        let sizes = Sizes::new($xl.dims(), $wl.dims())?;
        let bias = $self.bias.as_ref().map(|(bias, _)| bias.storage_and_layout());
        let bias = match &bias {
            None => None,
            Some((storage, layout)) => match &**storage {
                Storage::$kind(bias) => Some((bias, *layout)),
                _ => crate::error::bail!(
                    device,
                    "linear: the bias is on another device than the weight"
                ),
            },
        };
        Ok(($outputs(&sizes, bias)?, sizes.output($xl.dims())))
    }};
}

impl CustomOp3 for LinearInto {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward!(self, Cpu, (xl, wl), |sizes: &Sizes, bias| {
            sizes.outputs_on_cpu((xs, xl), (weight, wl), bias)
        })
    }

    fn cuda_fwd(
        &self,
        xs: &CudaStorage,
        xl: &Layout,
        weight: &CudaStorage,
        wl: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        forward!(self, Cuda, (xl, wl), |sizes: &Sizes, bias| {
            sizes.outputs((xs, xl), (weight, wl), bias)
        })
    }

    fn metal_fwd(
        &self,
        xs: &MetalStorage,
        xl: &Layout,
        weight: &MetalStorage,
        wl: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        forward!(self, Metal, (xl, wl), |sizes: &Sizes, bias| {
            sizes.outputs((xs, xl), (weight, wl), bias)
        })
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _below: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        ensure_detached("linear")?;
        let backward = Backward::new(xs, weight, grad)?;
        let mut token = match backward.factors() {
            Some((grad, xs)) => self.weight.file_product(grad.clone(), xs.clone())?,
            None => self.weight.file(backward.of_weight()?)?,
        };
        if let Some((_, sink)) = &self.bias {
            token = sink.file(backward.of_bias()?)?.or(token);
        }
        Ok((backward.of_input(xs, weight)?, None, token))
    }
}
