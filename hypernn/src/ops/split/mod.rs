//! Cuts generated parameters into the target's tensors, with a backward that costs O(P).
//!
//! candle's own `narrow` pads its gradient with zeros to the length of the whole vector, once per
//! tensor: O(tensors × P). Here each tensor's gradient is put into a ledger as it arrives, and one
//! node below them all turns the ledger's content into the generator's gradient at once:
//!
//! ```text
//! generator ──► Below (one zero, no values) ──► Slice 0 ──► tensor 0
//!                                          ├──► Slice 1 ──► tensor 1
//!                                          └──► …
//! ```
//!
//! `Slice` reads its values from a detached vector, so that they are copied once, scaled and
//! shifted on the way. Its backward files the gradient and gives `Below` a zero once, so that
//! candle reaches that node, after all slices. A tensor that the loss does not reach counts as zero.

mod below;
mod ledger;
mod scalar;
mod slice;

use std::sync::Arc;

use candle_core::{D, Result, Shape, Tensor};

use crate::generator::GeneratorOutput;
use ledger::Ledger;

/// One tensor of the target: `shift + scale × generated[offset..offset + len]`.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) offset: usize,
    pub(crate) dims: Vec<usize>,
    pub(crate) scale: f64,
    pub(crate) shift: f64,
}

impl Segment {
    fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether the values are taken as they are.
    fn is_plain(&self) -> bool {
        self.scale == 1. && self.shift == 0.
    }

    /// `[dims…]`, or `[sets, dims…]`.
    fn shape(&self, sets: Option<usize>) -> Shape {
        Shape::from(sets.into_iter().chain(self.dims.iter().copied()).collect::<Vec<_>>())
    }
}

/// Cuts what a generator gave into tensors `[dims…]`, or `[sets, dims…]`. A set's values lie in flat
/// order; segments are in order and do not overlap, and what lies behind the last is surplus.
pub(crate) fn split(
    output: &GeneratorOutput,
    sets: Option<usize>,
    segments: Arc<[Segment]>,
) -> Result<Vec<Tensor>> {
    let values = output.detach().values()?.contiguous()?;
    let values = match sets {
        None => values.flatten_all()?,
        Some(sets) => values.reshape((sets, ()))?,
    };
    check_width(&values, &segments)?;
    if !output.track_op() {
        return segments.iter().map(|segment| view(&values, sets, segment)).collect();
    }
    let ledger = Arc::new(Ledger::new(sets.unwrap_or(1), values.dim(D::Minus1)?, segments));
    let below = below::below(output, &ledger)?;
    (0..ledger.segments.len())
        .map(|index| slice::slice(&values, &below, &ledger, index, sets))
        .collect()
}

/// A user's generator may give too few values.
fn check_width(values: &Tensor, segments: &[Segment]) -> Result<()> {
    let (found, needed) =
        (values.dim(D::Minus1)?, segments.last().map_or(0, |s| s.offset + s.len()));
    if found < needed {
        candle_core::bail!("the generator gave {found} values, expected at least {needed}");
    }
    Ok(())
}

/// Without gradients a tensor is a view of the vector, or one pass over its values.
fn view(values: &Tensor, sets: Option<usize>, segment: &Segment) -> Result<Tensor> {
    let window = values.narrow(D::Minus1, segment.offset, segment.len())?;
    let window = window.reshape(segment.shape(sets))?;
    if segment.is_plain() {
        return Ok(window);
    }
    window.affine(segment.scale, segment.shift)
}
