//! All values at once, where each operation is a launch: scaled, shifted and cast in at most three,
//! and tensors that are views of the result.
//!
//! A view's own gradient would be padded to the length of the whole vector, as candle's `narrow` does.
//! A layer that knows the view's route delivers the gradient instead; for all else [`Param::collected`] makes
//! a copy, whose gradient goes the same way.

use std::sync::Arc;

use candle_core::{D, Result, Tensor};

use super::accumulator::GradientAccumulator;
use super::plan::SplitPlan;
use super::rows::Rows;
use super::{Slot, SplitTensors, Watch, check_width, gather};
use crate::param::{Param, Route};

/// Cuts rows into views, on any device.
pub(crate) fn split_whole(
    rows: &Rows,
    sets: Option<usize>,
    plan: &SplitPlan,
) -> Result<SplitTensors> {
    let values = rows.values()?;
    let rows = match rows {
        Rows::Linear { .. } => rows,
        _ => &Rows::Values(values.clone()),
    };
    let values = match sets {
        None => values.flatten_all()?,
        Some(sets) => values.reshape((sets, ()))?,
    };
    let width = values.dim(D::Minus1)?;
    check_width(width, &plan.slots)?;
    let factors = plan.factors(width, &values)?;
    let whole = plan.apply(&values, &factors)?;
    let views = plan.slots.iter().map(|slot| view(&whole, sets, slot));
    if !rows.track_op() {
        return Ok(SplitTensors::untracked(views.collect::<Result<_>>()?));
    }
    let slots = plan.slots.clone();
    let accumulator = GradientAccumulator::new(sets.unwrap_or(1), width, slots, values.dtype());
    let accumulator = Arc::new(accumulator.with_scale(factors.scale));
    let gather = gather(rows, &accumulator)?;
    let routed = |(slot, view): (usize, Result<Tensor>)| {
        let route = Route::new(accumulator.clone(), slot, gather.clone(), true);
        Ok(Param::routed(view?, Some(route)))
    };
    let params = views.enumerate().map(routed).collect::<Result<_>>()?;
    SplitTensors { params, watch: Some(Watch(accumulator)) }.for_second_order()
}

pub(super) fn view(whole: &Tensor, sets: Option<usize>, slot: &Slot) -> Result<Tensor> {
    let run = whole.narrow(D::Minus1, slot.offset, slot.len())?;
    let is_the_run = run.rank() == 1 && slot.dims.len() == 1;
    if is_the_run { Ok(run) } else { run.reshape(slot.shape(sets)) }
}
