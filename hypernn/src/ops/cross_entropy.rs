//! The mean cross-entropy over rows.

use candle_core::{D, Result, Tensor};

use super::dtype::internal;

/// Of `logits [N, V]` and the target of each row, over the rows that have one; at least one has.
pub(crate) fn cross_entropy(logits: &Tensor, targets: Vec<Option<u32>>) -> Result<Tensor> {
    composed(logits, &targets)
}

/// By candle's operations.
fn composed(logits: &Tensor, targets: &[Option<u32>]) -> Result<Tensor> {
    let count = targets.iter().flatten().count();
    let (rows, targets): (Vec<_>, Vec<_>) = targets
        .iter()
        .enumerate()
        .filter_map(|(row, target)| target.map(|target| (row as u32, target)))
        .unzip();
    let device = logits.device();
    let logits = logits.to_dtype(internal(logits.dtype()))?.contiguous()?;
    let logits = logits.index_select(&Tensor::from_vec(rows, count, device)?, 0)?;
    let targets = Tensor::from_vec(targets, (count, 1), device)?;
    candle_nn::ops::log_softmax(&logits, D::Minus1)?.gather(&targets, 1)?.mean_all()?.neg()
}
