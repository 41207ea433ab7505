//! The node below all tensors, without values: it gathers their gradients, and makes that of what was generated.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp3, Layout, MetalStorage, Result, Shape, Tensor,
};

use super::accumulator::GradientAccumulator;
use super::scaled::ScaledRows;
use super::zero_node::{Visit, zero, zero_node};
use crate::ops::linear::backward_with_bias;
use crate::ops::second_order::keeps_graph;

/// Below values, `[…]`: their gradient is what the accumulator holds.
pub(super) fn gather_values(
    values: &Tensor,
    accumulator: &Arc<GradientAccumulator>,
) -> Result<Tensor> {
    zero_node(values, GatherValues { accumulator: accumulator.clone() })
}

/// Below a linear layer: the gradients of its inputs, weight and bias.
pub(super) fn gather_linear(
    inputs: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    accumulator: &Arc<GradientAccumulator>,
) -> Result<Tensor> {
    inputs.apply_op3(
        weight,
        bias,
        Gather { kind: GatherKind::Linear, accumulator: accumulator.clone() },
    )
}

/// Below shared rows and the gains of each set: the gradients of rows, gains and bias.
pub(super) fn gather_scaled(
    shared: &Tensor,
    gains: &Tensor,
    bias: &Tensor,
    accumulator: &Arc<GradientAccumulator>,
) -> Result<Tensor> {
    let kind = GatherKind::Scaled(ScaledRows::new(shared, gains, bias)?);
    shared.apply_op3(gains, bias, Gather { kind, accumulator: accumulator.clone() })
}

struct GatherValues {
    accumulator: Arc<GradientAccumulator>,
}

impl Visit for GatherValues {
    const NAME: &'static str = "split";

    fn gradient(&self, values: &Tensor) -> Result<Option<Tensor>> {
        let whole = self.accumulator.whole(&self.accumulator.settle())?;
        whole.map(|grad| grad.reshape(values.shape())).transpose()
    }
}

/// How the three tensors below become values.
enum GatherKind {
    Linear,
    Scaled(ScaledRows),
}

struct Gather {
    kind: GatherKind,
    accumulator: Arc<GradientAccumulator>,
}

type Grads = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl Gather {
    fn linear_bwd(&self, inputs: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Grads> {
        let Some(grad) = self.accumulator.whole(&self.accumulator.settle())? else {
            return Ok((None, None, None));
        };
        backward_with_bias(inputs, weight, bias, &grad)
    }

    fn scaled_bwd(
        &self,
        rows: &ScaledRows,
        shared: &Tensor,
        gains: &Tensor,
        bias: &Tensor,
    ) -> Result<Grads> {
        if keeps_graph() {
            return self.scaled_bwd_by_candle(shared, gains, bias);
        }
        let grads = rows.gradients(&self.accumulator.slots, &self.accumulator.settle())?;
        Ok((Some(grads.shared), Some(grads.gains), Some(grads.bias)))
    }

    /// By operations that have gradients themselves, for values `gains[g, n] × shared[n] + bias`.
    fn scaled_bwd_by_candle(
        &self,
        shared: &Tensor,
        gains: &Tensor,
        bias: &Tensor,
    ) -> Result<Grads> {
        let Some(grad) = self.accumulator.whole(&self.accumulator.settle())? else {
            return Ok((None, None, None));
        };
        let ((sets, rows), chunk) = (gains.dims2()?, bias.elem_count());
        let grad = grad.reshape((sets, rows, chunk))?;
        let of_shared = grad.broadcast_mul(&gains.unsqueeze(2)?)?.sum(0)?;
        let of_gains = grad.broadcast_mul(&shared.reshape((1, rows, chunk))?)?.sum(2)?;
        let of_bias = grad.sum((0, 1))?;
        Ok((
            Some(of_shared.reshape(shared.shape())?),
            Some(of_gains),
            Some(of_bias.reshape(bias.shape())?),
        ))
    }
}

impl CustomOp3 for Gather {
    fn name(&self) -> &'static str {
        "split"
    }

    fn cpu_fwd(
        &self,
        first: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        zero(first)
    }

    fn cuda_fwd(
        &self,
        first: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        zero(first)
    }

    fn metal_fwd(
        &self,
        first: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        zero(first)
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, c: &Tensor, _: &Tensor, _: &Tensor) -> Result<Grads> {
        match &self.kind {
            GatherKind::Linear => self.linear_bwd(a, b, c),
            GatherKind::Scaled(rows) => self.scaled_bwd(rows, a, b, c),
        }
    }
}
