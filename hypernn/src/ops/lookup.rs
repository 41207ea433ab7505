//! Rows of a generated table.

use candle_core::{Result, Tensor};

use super::adopt::adopt;
use super::split::Sink;

/// The rows of `table [rows, width]` at `indices [n]`, as candle's `index_select`.
pub(crate) fn lookup_into(table: &Tensor, sink: Sink, indices: &Tensor) -> Result<Tensor> {
    let (shape, below) = (table.shape().clone(), sink.below().clone());
    let rows = table.detach().index_select(indices, 0)?;
    adopt("embedding", rows, [indices, &below], move |indices, grad| {
        let zeros = Tensor::zeros(&shape, grad.dtype(), grad.device())?;
        Ok((None, sink.file(zeros.index_add(indices, &grad.contiguous()?, 0)?)?))
    })
}
