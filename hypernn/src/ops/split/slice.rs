//! One tensor of the target, cut from what was generated.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Tensor, Var, bail,
};

use super::below::zero;
use super::ledger::Ledger;

/// A segment of every set; its gradient goes to the ledger.
///
/// It depends on the node below alone: candle has nothing to do with the values.
pub(super) struct Slice {
    pub(super) ledger: Arc<Ledger>,
    pub(super) index: usize,
    pub(super) shape: Shape,
    /// None, once the node is made.
    pub(super) values: Mutex<Option<CpuStorage>>,
}

/// Reached on the CPU alone, in f32 and f64: elsewhere tensors are views; see `whole`.
impl CustomOp1 for Slice {
    fn name(&self) -> &'static str {
        "split"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(values) = values else { bail!("split: the values are in use elsewhere") };
        Ok((values, self.shape.clone()))
    }

    fn bwd(&self, below: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        pass_token(self.ledger.file(self.index, grad.clone().into())?, below)
    }
}

/// The gradient that a slice gives the node below: a zero from the first of a pass, so that candle
/// reaches that node, and none from the others.
///
/// The zero carries `alive` in its graph. candle keeps it among the pass's gradients, and drops it
/// where the pass fails; so the ledger can tell a new pass from an old one that never ended.
pub(super) fn pass_token(alive: Option<Arc<()>>, below: &Tensor) -> Result<Option<Tensor>> {
    let Some(alive) = alive else { return Ok(None) };
    let zero = Var::zeros((), below.dtype(), below.device())?;
    zero.as_tensor().apply_op1(PassToken { _alive: alive }).map(Some)
}

struct PassToken {
    _alive: Arc<()>,
}

impl CustomOp1 for PassToken {
    fn name(&self) -> &'static str {
        "split"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        zero(storage)
    }

    fn cuda_fwd(&self, storage: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        zero(storage)
    }

    fn metal_fwd(&self, storage: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        zero(storage)
    }
}
