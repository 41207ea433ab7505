//! One tensor of the target, cut from what was generated.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, Var, bail};

use super::accumulator::GradientAccumulator;
use super::zero_node::{Visit, zero_node};
use crate::param::Accumulator as _;

/// A slot of every set; its gradient goes to the accumulator.
///
/// It depends on the node that gathers alone: candle has nothing to do with the values.
pub(super) struct Slice {
    pub(super) accumulator: Arc<GradientAccumulator>,
    pub(super) index: usize,
    pub(super) shape: Shape,
    /// The tensor's values; none, once the node is made.
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

    fn bwd(&self, edge: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.accumulator.add(self.index, grad.clone().into(), edge)
    }
}

/// The gradient of the node that gathers: a zero from the first gradient of a pass, so that candle reaches that
/// node, and none from the others.
///
/// The zero carries `alive` in its graph. candle keeps it among the pass's gradients, and drops it
/// where the pass fails; so the accumulator can tell a new pass from an old one that never ended.
pub(super) fn pass_token(alive: Option<Arc<()>>, gather: &Tensor) -> Result<Option<Tensor>> {
    let Some(alive) = alive else { return Ok(None) };
    let zero = Var::zeros((), gather.dtype(), gather.device())?;
    zero_node(&zero, PassToken { _alive: alive }).map(Some)
}

struct PassToken {
    _alive: Arc<()>,
}

impl Visit for PassToken {
    const NAME: &'static str = "split";
}
