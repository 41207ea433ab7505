//! `y = x wᵀ + b` over generated weights, whose gradients go straight to where they are collected.

use candle_core::{
    CpuStorage, CudaStorage, CustomOp3, Layout, MetalStorage, Result, Shape, Storage, Tensor, bail,
};

use super::linear::{Backward, Sizes};
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

/// The forward on one kind of storage: `$matmul` gives the product, `$add` its sum with the bias.
macro_rules! forward {
    ($self:ident, $kind:ident, ($xs:ident, $xl:ident), ($weight:ident, $wl:ident), $matmul:ident, $add:expr) => {{
        let sizes = Sizes::new($xl.dims(), $wl.dims())?;
        let ys = sizes.$matmul($xs, $xl, $weight, $wl)?;
        let Some((bias, _)) = &$self.bias else { return Ok((ys, sizes.output($xl.dims()))) };
        let (storage, layout) = bias.storage_and_layout();
        let Storage::$kind(bias) = &*storage else {
            bail!("linear: the bias is on another device than the weight");
        };
        Ok(($add(&sizes, ys, bias, layout)?, sizes.output($xl.dims())))
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
        let add = |sizes: &Sizes, mut ys: CpuStorage, bias: &CpuStorage, layout: &Layout| {
            sizes.add_bias_in_place(&mut ys, bias, layout)?;
            Ok::<_, candle_core::Error>(ys)
        };
        forward!(self, Cpu, (xs, xl), (weight, wl), matmul_on_cpu, add)
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
        let add = |sizes: &Sizes, ys: CudaStorage, bias: &CudaStorage, layout: &Layout| {
            sizes.add_bias(&ys, bias, layout)
        };
        forward!(self, Cuda, (xs, xl), (weight, wl), matmul, add)
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
        let add = |sizes: &Sizes, ys: MetalStorage, bias: &MetalStorage, layout: &Layout| {
            sizes.add_bias(&ys, bias, layout)
        };
        forward!(self, Metal, (xs, xl), (weight, wl), matmul, add)
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _below: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let backward = Backward::new(xs, weight, grad)?;
        let mut token = match backward.rows() {
            Some((grad, xs)) => self.weight.file_outer(grad.clone(), xs.clone())?,
            None => self.weight.file(backward.of_weight()?)?,
        };
        if let Some((_, sink)) = &self.bias {
            token = sink.file(backward.of_bias()?)?.or(token);
        }
        Ok((backward.of_input(xs, weight)?, None, token))
    }
}
