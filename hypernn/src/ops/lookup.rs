//! Rows of a table.

use candle_core::{Result, Tensor};

use super::quantized::quantized_rows;
use super::with_backward::with_backward;
use crate::param::Param;

/// The rows of `table [rows, width]` at `indices [n]`, as candle's `index_select`.
pub(crate) fn lookup(table: &Param, indices: &Tensor) -> Result<Tensor> {
    if let Some(quantized) = table.blocks() {
        return quantized_rows(quantized, indices);
    }
    let Some(route) = table.route() else {
        return table.collected()?.index_select(indices, 0);
    };
    let (table, edge) = (table.values().detach(), route.edge().clone());
    let (rows, shape) = (table.index_select(indices, 0)?, table.shape().clone());
    with_backward("embedding", rows, indices, &edge, move |indices, grad| {
        let zeros = Tensor::zeros(&shape, grad.dtype(), grad.device())?;
        Ok((None, route.deliver(zeros.index_add(indices, &grad.contiguous()?, 0)?)?))
    })
}
