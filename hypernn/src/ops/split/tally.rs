//! Gradients of several backward passes over tensors that were cut before, added up tensor by tensor, and handed back to
//! where the tensors come from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result, Tensor, Var};

use super::accumulator::GradientAccumulator;
use super::zero_node::{Visit, zero_node};
use super::{Slot, SplitTensors};
use crate::param::{Param, PendingGradient, Route};

/// The sum for each tensor; none where no loss has reached it.
pub(crate) struct Tally(Arc<Mutex<Sums>>);

type Sums = Vec<Option<PendingGradient>>;

/// The node below all tensors; nothing lies below it.
struct Count {
    accumulator: Arc<GradientAccumulator>,
    sums: Arc<Mutex<Sums>>,
}

impl Tally {
    /// The same values as leaves of a graph, and what adds up their gradients: tensors `[dims…]`, or `[sets, dims…]`.
    pub(crate) fn over(params: &[Param], sets: Option<usize>) -> Result<(Self, Vec<Param>)> {
        let (dtype, device) =
            params.first().map_or((DType::F32, &Device::Cpu), |at| (at.dtype(), at.device()));
        let (slots, width) = slots(params, sets);
        let accumulator = GradientAccumulator::new(sets.unwrap_or(1), width, slots, dtype);
        let accumulator = Arc::new(accumulator);
        let sums = Arc::new(Mutex::new(vec![None; params.len()]));
        let count = Count { accumulator: accumulator.clone(), sums: sums.clone() };
        let zero = Var::zeros((), dtype, device)?;
        let edge = zero_node(&zero, count)?;
        let leaf = |(index, param): (usize, &Param)| {
            let route = Route::new(accumulator.clone(), index, edge.clone(), true);
            Param::routed(param.values().detach(), Some(route))
        };
        let params = params.iter().enumerate().map(leaf).collect();
        let leaves = SplitTensors { params, watch: None }.for_second_order()?.params;
        Ok((Self(sums), leaves))
    }

    /// The sums, which are taken out.
    pub(crate) fn take(&self) -> Vec<Option<PendingGradient>> {
        let mut sums = lock(&self.0);
        let none = vec![None; sums.len()];
        std::mem::replace(&mut *sums, none)
    }
}

fn lock(sums: &Mutex<Sums>) -> MutexGuard<'_, Sums> {
    sums.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One after the other, as they are.
fn slots(params: &[Param], sets: Option<usize>) -> (Arc<[Slot]>, usize) {
    let mut offset = 0;
    let slot = |param: &Param| {
        let dims = param.dims()[usize::from(sets.is_some())..].to_vec();
        let slot = Slot { offset, dims, scale: 1., shift: 0. };
        offset += slot.len();
        slot
    };
    let slots = params.iter().map(slot).collect();
    (slots, offset)
}

impl Visit for Count {
    const NAME: &'static str = "tally";

    fn gradient(&self, _: &Tensor) -> Result<Option<Tensor>> {
        let mut sums = lock(&self.sums);
        for (sum, grad) in sums.iter_mut().zip(self.accumulator.settle()) {
            let Some(grad) = grad else { continue };
            let grad = grad.detach();
            *sum = Some(sum.take().map_or(Ok(grad.clone()), |sum| added(sum, grad))?);
        }
        Ok(None)
    }
}

/// Products over few rows stay so, as one over the rows of both, as long as these are less than what they give.
fn added(sum: PendingGradient, grad: PendingGradient) -> Result<PendingGradient> {
    if let (PendingGradient::Product(a, b), PendingGradient::Product(c, d)) = (&sum, &grad) {
        let (rows, m, n) = (a.dim(1)? + c.dim(1)?, a.dim(2)?, b.dim(2)?);
        if rows * (m + n) <= m * n {
            let (left, right) = (Tensor::cat(&[a, c], 1)?, Tensor::cat(&[b, d], 1)?);
            return Ok(PendingGradient::Product(left, right));
        }
    }
    sum.plus(grad)
}

/// A scalar whose backward pass gives each parameter this gradient; none where no gradient flows back from any.
pub(crate) fn hand_back(
    params: &[Param],
    grads: impl IntoIterator<Item = Option<PendingGradient>>,
) -> Result<Option<Tensor>> {
    let mut parts = Vec::with_capacity(params.len());
    for (param, grad) in params.iter().zip(grads) {
        let Some(grad) = grad else { continue };
        let (tensor, route) = param.resolved()?;
        let node = route.as_ref().map_or(&tensor, Route::edge).clone();
        if node.track_op() {
            parts.push(zero_node(&node, HandBack { grad, route })?);
        }
    }
    if parts.is_empty() {
        return Ok(None);
    }
    Tensor::stack(&parts, 0)?.sum_all().map(Some)
}

/// Gives a gradient that is known, whatever arrives.
struct HandBack {
    grad: PendingGradient,
    route: Option<Route>,
}

impl Visit for HandBack {
    const NAME: &'static str = "hand_back";

    fn gradient(&self, node: &Tensor) -> Result<Option<Tensor>> {
        match &self.route {
            Some(route) => route.deliver(self.grad.clone()),
            None => self.grad.tensor()?.reshape(node.shape()).map(Some),
        }
    }
}
