//! One product of a convolution with its weights.

use std::slice::ChunksExactMut;

use crate::ops::panels::{Panels, Side};
use crate::ops::scalar::Scalar;

/// Sums of one channel that are computed before they are put in their places.
const BLOCK: usize = 96;

/// A product with the weights of one set, over the images of a run.
pub(super) struct Product<'a, T> {
    pub(super) weights: Weights<'a, T>,
    /// Where the values of a sum lie behind its column.
    pub(super) terms: Vec<usize>,
    /// Image by image: where the values of each sum begin.
    pub(super) columns: Vec<usize>,
    /// Where the first of each column's sums goes.
    pub(super) places: Vec<usize>,
    /// How far behind it each of the others goes.
    pub(super) channels: Vec<usize>,
    pub(super) columns_per_image: usize,
}

/// The weights' side of a product, of each group.
pub(super) enum Weights<'a, T> {
    Packed(Vec<Panels<T>>),
    /// Where a sum has fewer terms than a column has sums, it takes less to pack the images.
    Spread {
        groups: Vec<&'a [T]>,
        terms: Vec<usize>,
        columns: Vec<usize>,
    },
}

impl<'a, T: Scalar> Weights<'a, T> {
    pub(super) fn new(groups: Vec<&'a [T]>, terms: Vec<usize>, columns: Vec<usize>) -> Self {
        if terms.len() < columns.len() {
            return Self::Spread { groups, terms, columns };
        }
        let side = |values| Side { values, terms: &terms, columns: &columns };
        Self::Packed(groups.into_iter().map(|group| Panels::pack(side(group))).collect())
    }
}

impl<T: Scalar> Product<'_, T> {
    /// The sums of one group over some images, from `values` to `out`; a bias, where there is one, is
    /// added to those of each channel.
    pub(super) fn compute(
        &self,
        out: &mut [T],
        (group, images): (usize, usize),
        (values, bias): (&[T], &[T]),
        block: &mut Vec<T>,
    ) {
        let columns = &self.columns[..images * self.columns_per_image];
        for (columns, places) in columns.chunks(BLOCK).zip(self.places.chunks(BLOCK)) {
            let side = Side { values, terms: &self.terms, columns };
            match &self.weights {
                Weights::Packed(panels) => {
                    for panel in panels[group].iter() {
                        let bias = bias.get(panel.columns.clone()).unwrap_or_default();
                        let rows = zeros(block, columns.len(), panel.width);
                        rows.for_each(|row| row[..bias.len()].copy_from_slice(bias));
                        panel.add_product(block, side);
                        let places = &places[..columns.len()];
                        place_columns(out, places, &self.channels[panel.columns], block);
                    }
                }
                Weights::Spread { groups, terms, columns } => {
                    for panel in Panels::pack(side).iter() {
                        let rows = zeros(block, columns.len(), panel.width);
                        rows.zip(bias).for_each(|(row, &bias)| row.fill(bias));
                        panel.add_product(block, Side { values: groups[group], terms, columns });
                        place_rows(out, &self.channels, &places[panel.columns], block);
                    }
                }
            }
        }
    }
}

/// A block of zeros, in a vector that is used again, by its rows.
fn zeros<T: Scalar>(block: &mut Vec<T>, rows: usize, width: usize) -> ChunksExactMut<'_, T> {
    block.clear();
    block.resize(rows * width, T::default());
    block.chunks_exact_mut(width)
}

/// Puts the sums of a block in their places, `rows[row] + columns[column]`, where many columns are
/// neighbours.
fn place_rows<T: Copy>(out: &mut [T], rows: &[usize], columns: &[usize], block: &[T]) {
    let (width, mut first) = (block.len() / rows.len(), 0);
    for run in columns.chunk_by(|column, next| column + 1 == *next) {
        for (sums, start) in block.chunks_exact(width).zip(rows) {
            out[start + run[0]..][..run.len()].copy_from_slice(&sums[first..][..run.len()]);
        }
        first += run.len();
    }
}

/// The same, where many rows are.
pub(super) fn place_columns<T: Copy>(
    out: &mut [T],
    rows: &[usize],
    columns: &[usize],
    block: &[T],
) {
    let width = block.len() / rows.len();
    let [first, .., last] = *rows else { return place_rows(out, rows, columns, block) };
    for (i, start) in columns.iter().enumerate() {
        let sums = block.chunks_exact(width).map(|sums| sums[i]);
        if last - first + 1 == rows.len() {
            let out = &mut out[start + first..][..rows.len()];
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum);
        } else {
            let out = &mut out[*start..];
            rows.iter().zip(sums).for_each(|(&row, sum)| out[row] = sum);
        }
    }
}
