//! Several sets of weights in one layer: which rows of the batch use which set.

use candle_core::{Result, Tensor};

/// The number of sets in the tensor `name` of a layer, whose rank is `rank` where it is shared by all rows:
/// `None` where it is.
///
/// # Errors
/// Any other rank.
pub(crate) fn count(
    layer: &str,
    name: &str,
    weight: &Tensor,
    rank: usize,
) -> Result<Option<usize>> {
    match weight.rank().checked_sub(rank) {
        Some(0) => Ok(None),
        Some(1) => weight.dim(0).map(Some),
        _ => crate::error::bail!(
            shape,
            "{layer}: the {name} has shape {:?}, expected {rank} dimensions, or {} with the number of sets in front",
            weight.dims(),
            rank + 1
        ),
    }
}

/// How many consecutive rows of a batch of `rows` use one set.
///
/// # Errors
/// The rows can't be shared out evenly.
pub(crate) fn rows_per_set(layer: &str, rows: usize, sets: usize) -> Result<usize> {
    if sets == 0 || !rows.is_multiple_of(sets) {
        crate::error::bail!(
            shape,
            "{layer}: a batch of {rows} rows can't be shared out among {sets} weight sets, expected a multiple"
        );
    }
    Ok(rows / sets)
}

/// The number of sets among the named tensors of one layer, each with its rank where it is shared: 1
/// where all are.
///
/// # Errors
/// A weight of another rank, or different numbers of sets.
pub(crate) fn among<'a>(
    layer: &str,
    weights: impl IntoIterator<Item = (&'a str, &'a Tensor, usize)>,
) -> Result<usize> {
    let mut found = None;
    for (name, weight, rank) in weights {
        match (found, count(layer, name, weight, rank)?) {
            (Some(sets), Some(other)) if sets != other => crate::error::bail!(
                shape,
                "{layer}: one weight holds {sets} sets, another {other} (shape {:?}), expected as many",
                weight.dims()
            ),
            (None, some) => found = some,
            _ => {}
        }
    }
    Ok(found.unwrap_or(1))
}

/// A weight of rank `rank`, or with the sets in front, as `[sets, dims…]`.
///
/// # Errors
/// The weight has another rank.
pub(crate) fn spread(weight: &Tensor, rank: usize, sets: usize) -> Result<Tensor> {
    if weight.rank() > rank {
        return Ok(weight.clone());
    }
    let one = weight.unsqueeze(0)?;
    // A broadcast to the same shape would be a node, whose backward costs as any other's.
    if sets == 1 {
        return Ok(one);
    }
    let dims: Vec<_> = std::iter::once(sets).chain(weight.dims().iter().copied()).collect();
    one.broadcast_as(dims)
}
