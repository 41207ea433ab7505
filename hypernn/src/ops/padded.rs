//! Rows by group, with zeros where a group has fewer.

use std::iter::repeat_n;

use candle_core::{Result, Tensor};

/// The rows `[N, W]` at these places, group by group, `[groups, longest, W]`, and zeros behind those of shorter groups.
///
/// Nothing is multiplied or added, so that rows of no group may hold anything, NaN included.
pub(crate) fn padded_groups(rows: &Tensor, groups: &[Vec<usize>]) -> Result<Tensor> {
    let (count, width) = rows.dims2()?;
    let longest = groups.iter().map(Vec::len).max().unwrap_or(0);
    let places = groups.iter().flat_map(|group| {
        let padding = repeat_n(count, longest - group.len());
        group.iter().copied().chain(padding).map(|place| place as i64)
    });
    let places = Tensor::from_iter(places, rows.device())?;
    let zeros = Tensor::zeros((1, width), rows.dtype(), rows.device())?;
    let padded = Tensor::cat(&[rows, &zeros], 0)?.index_select(&places, 0)?;
    padded.reshape((groups.len(), longest, width))
}
