//! One tensor of a split at a time: of the generated rows, those alone are computed that it lies in.

use candle_core::{Result, Tensor};

use super::cut::Sets;
use super::plan::SplitPlan;
use super::rows::Rows;
use super::{Slot, check_width, split};

/// What is left to compute all tensors from, without gradients.
pub(crate) struct Streamed {
    rows: Rows,
    sets: Option<usize>,
    plan: SplitPlan,
    /// The values of each generated row, and of each set.
    chunk: usize,
    width: usize,
}

/// Where a tensor lies among the rows of a set.
#[derive(Clone, Copy)]
struct Window {
    first_row: usize,
    rows: usize,
    /// The columns, where it lies in a single row.
    columns: Option<(usize, usize)>,
}

impl Streamed {
    pub(crate) fn new(rows: &Rows, sets: Option<usize>, plan: SplitPlan) -> Result<Self> {
        let rows = rows.detach();
        let width = Sets::of(&rows, sets.unwrap_or(1))?.width;
        check_width(width, &plan.slots)?;
        let chunk = match &rows {
            Rows::Values(_) => width,
            Rows::Linear { bias, .. } | Rows::Scaled { bias, .. } => bias.elem_count(),
        };
        Ok(Self { rows, sets, plan, chunk, width })
    }

    /// Tensor number `index`, scaled and shifted.
    pub(crate) fn tensor(&self, index: usize) -> Result<Tensor> {
        let slot = &self.plan.slots[index];
        let window = Window::of(slot, self.chunk);
        let offset = match window.columns {
            Some(_) => 0,
            None => slot.offset - window.first_row * self.chunk,
        };
        let plan = self.plan.with_slots([Slot { offset, ..slot.clone() }]);
        let cut = split(&self.within(window)?, self.sets, &plan)?.params;
        // A view would hold what lies beside it.
        match cut.first() {
            Some(param) => param.values().contiguous(),
            None => crate::error::bail!(shape, "there is no tensor number {index}"),
        }
    }

    fn within(&self, window: Window) -> Result<Rows> {
        let sets = self.sets.unwrap_or(1);
        Ok(match &self.rows {
            Rows::Values(values) => {
                Rows::Values(window.of_columns(&values.reshape((sets, self.width))?, 1)?)
            }
            Rows::Linear { inputs, weight, bias } => {
                let by_set = inputs.reshape((sets, self.width / self.chunk, ()))?;
                let inputs = window.of_rows(&by_set, 1)?.flatten(0, 1)?;
                let weight = window.of_columns(weight, 0)?;
                Rows::Linear { inputs, weight, bias: window.of_columns(bias, 0)? }
            }
            Rows::Scaled { shared, gains, bias } => Rows::Scaled {
                shared: window.of_columns(&window.of_rows(shared, 0)?, 1)?.contiguous()?,
                gains: window.of_rows(gains, 1)?.contiguous()?,
                bias: window.of_columns(bias, 0)?,
            },
        })
    }
}

impl Window {
    fn of(slot: &Slot, chunk: usize) -> Self {
        let first_row = slot.offset / chunk;
        let rows = (slot.offset + slot.len()).div_ceil(chunk) - first_row;
        let columns = (rows == 1).then_some((slot.offset % chunk, slot.len()));
        Self { first_row, rows, columns }
    }

    fn of_rows(self, rows: &Tensor, dim: usize) -> Result<Tensor> {
        rows.narrow(dim, self.first_row, self.rows)
    }

    fn of_columns(self, values: &Tensor, dim: usize) -> Result<Tensor> {
        let Some((start, len)) = self.columns else { return Ok(values.clone()) };
        values.narrow(dim, start, len)
    }
}
