//! All values at once, where each operation is a launch: scaled, shifted and cast in at most three,
//! and tensors that are views of the result.
//!
//! A view's own gradient would be padded to the length of the whole vector, as candle's `narrow` does.
//! A layer that knows the view's sink files the gradient instead; for all else [`Sink::tracked`] makes
//! a copy, whose gradient goes the same way.
//!
//! [`Sink::tracked`]: super::Sink::tracked

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, D, Layout, MetalStorage, Result, Shape, Tensor,
};

use super::ledger::Ledger;
use super::pattern::Pattern;
use super::slice::pass_token;
use super::{Cuts, Segment, Sink, Watch, below, check_width};
use crate::generator::Rows;

/// Cuts rows into views, on any device.
pub(crate) fn split_whole(rows: &Rows, sets: Option<usize>, pattern: &Pattern) -> Result<Cuts> {
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
    check_width(width, &pattern.segments)?;
    let factors = pattern.factors(width, &values)?;
    let whole = pattern.apply(&values, &factors)?;
    let views = pattern.segments.iter().map(|segment| view(&whole, sets, segment));
    if !rows.track_op() {
        return Ok(Cuts::untracked(views.collect::<Result<_>>()?));
    }
    let size = (sets.unwrap_or(1), width);
    let ledger = Ledger::new(size, pattern.segments.clone(), values.dtype());
    let ledger = Arc::new(ledger.with_scale(factors.scale));
    let below = below(rows, &ledger)?;
    let sink = |index| Sink { ledger: ledger.clone(), index, below: below.clone(), of_view: true };
    Ok(Cuts {
        tensors: views.collect::<Result<_>>()?,
        sinks: (0..pattern.segments.len()).map(sink).collect(),
        watch: Some(Watch(ledger)),
    })
}

pub(super) fn view(whole: &Tensor, sets: Option<usize>, segment: &Segment) -> Result<Tensor> {
    whole.narrow(D::Minus1, segment.offset, segment.len())?.reshape(segment.shape(sets))
}

/// A copy of a view of values, whose gradient goes to the ledger as that of a segment.
pub(super) fn copied(
    view: &Tensor,
    below: &Tensor,
    (ledger, index): (&Arc<Ledger>, usize),
) -> Result<Tensor> {
    view.detach().apply_op2(below, Copied { ledger: ledger.clone(), index })
}

/// A copy of a view; its gradient goes to the ledger.
struct Copied {
    ledger: Arc<Ledger>,
    index: usize,
}

impl Copied {
    fn run<S: BackendStorage>(view: &S, layout: &Layout) -> Result<(S, Shape)> {
        Ok((view.affine(layout, 1., 0.)?, layout.shape().clone()))
    }
}

impl CustomOp2 for Copied {
    fn name(&self) -> &'static str {
        "split"
    }

    fn cpu_fwd(
        &self,
        view: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Self::run(view, layout)
    }

    fn cuda_fwd(
        &self,
        view: &CudaStorage,
        layout: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Self::run(view, layout)
    }

    fn metal_fwd(
        &self,
        view: &MetalStorage,
        layout: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        Self::run(view, layout)
    }

    fn bwd(
        &self,
        _: &Tensor,
        below: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((None, pass_token(self.ledger.file(self.index, grad.clone().into())?, below)?))
    }
}
