//! The node below all slices: no values, and the gradient of all that was generated.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp3, Layout, MetalStorage, Result, Shape, Tensor,
};

use super::ledger::Ledger;
use crate::generator::GeneratorOutput;
use crate::generator::Rows;
use crate::ops::linear;

/// A zero that depends on all that the output was computed from.
pub(super) fn below(output: &GeneratorOutput, ledger: &Arc<Ledger>) -> Result<Tensor> {
    let node = Below { ledger: ledger.clone() };
    match &output.rows {
        Rows::Values(values) => values.apply_op1(node),
        Rows::Linear { inputs, weight, bias } => inputs.apply_op3(weight, bias, node),
    }
}

struct Below {
    ledger: Arc<Ledger>,
}

impl Below {
    fn zero<S: BackendStorage>(storage: &S, layout: &Layout) -> Result<(S, Shape)> {
        let first = Layout::contiguous_with_offset((), layout.start_offset());
        Ok((storage.affine(&first, 0., 0.)?, Shape::from(())))
    }
}

/// Below values: their gradient is what the ledger holds.
impl CustomOp1 for Below {
    fn name(&self) -> &'static str {
        "split"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Self::zero(storage, layout)
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Self::zero(storage, layout)
    }

    fn metal_fwd(&self, storage: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        Self::zero(storage, layout)
    }

    fn bwd(&self, values: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        self.ledger.settle()?.map(|grad| grad.reshape(values.shape())).transpose()
    }
}

/// Below a linear layer: the gradients of its inputs, weight and bias.
impl CustomOp3 for Below {
    fn name(&self) -> &'static str {
        "split"
    }

    fn cpu_fwd(
        &self,
        inputs: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Self::zero(inputs, layout)
    }

    fn cuda_fwd(
        &self,
        inputs: &CudaStorage,
        layout: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Self::zero(inputs, layout)
    }

    fn metal_fwd(
        &self,
        inputs: &MetalStorage,
        layout: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        Self::zero(inputs, layout)
    }

    fn bwd(
        &self,
        inputs: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(grad) = self.ledger.settle()? else { return Ok((None, None, None)) };
        let grad = grad.reshape((1, inputs.dim(0)?, weight.dim(0)?))?;
        let (inputs_grad, weight_grad) =
            linear::backward(&inputs.unsqueeze(0)?, &weight.unsqueeze(0)?, &grad)?;
        let bias_grad = linear::bias_backward(bias, &grad)?;
        let squeeze = |grad: Option<Tensor>| grad.map(|grad| grad.squeeze(0)).transpose();
        Ok((squeeze(inputs_grad)?, squeeze(weight_grad)?, squeeze(bias_grad)?))
    }
}
