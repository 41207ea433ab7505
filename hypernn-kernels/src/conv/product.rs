//! One product of a convolution with its weights.

use crate::float::Float;
use crate::microkernel::{Operand, PackedOperand, PackedPanel, for_each_panel, multiples};
use crate::transpose::transpose_rows;

/// Sums of one channel that are computed before they are put in their places.
const BLOCK: usize = 96;

/// The offsets of a product over the images of a run.
pub(super) struct WeightProduct {
    /// Where the values of a sum lie behind its column.
    pub(super) terms: Vec<usize>,
    /// Image by image: where the values of each sum begin.
    pub(super) columns: Vec<usize>,
    /// Where the first of each column's sums goes.
    pub(super) places: Vec<usize>,
    /// How far behind it each of the others goes.
    pub(super) channels: Vec<usize>,
    pub(super) columns_per_image: usize,
    /// Where the weights of a sum lie behind the first of a channel, in the order of its values.
    pub(super) weight_terms: Vec<usize>,
    /// The first weight of each channel.
    pub(super) weight_columns: Vec<usize>,
}

/// The weights of one group.
pub(super) enum Weights<'a, T> {
    Packed(PackedOperand<T>),
    /// Where a sum has fewer terms than a column has sums, it takes less to pack the images.
    Broadcast(&'a [T]),
}

impl WeightProduct {
    pub(super) fn weights<'a, T: Float>(&self, group: &'a [T]) -> Weights<'a, T> {
        if self.terms.len() < self.channels.len() {
            return Weights::Broadcast(group);
        }
        Weights::Packed(PackedOperand::pack(self.weight_side(group)))
    }

    fn weight_side<'a, T>(&'a self, values: &'a [T]) -> Operand<'a, T> {
        Operand { values, terms: &self.weight_terms, columns: &self.weight_columns }
    }

    /// The sums of one group over some images, from `values` to `out`; a bias, where there is one, is
    /// added to those of each channel.
    pub(super) fn compute<T: Float>(
        &self,
        out: &mut [T],
        images: usize,
        weights: &Weights<'_, T>,
        values: &[T],
        bias: &[T],
        block: &mut Vec<T>,
    ) {
        let columns = &self.columns[..images * self.columns_per_image];
        let blocks = columns.chunks(BLOCK).zip(self.places.chunks(BLOCK));
        let blocks = blocks.map(|(columns, places)| {
            (Operand { values, terms: &self.terms, columns }, &places[..columns.len()])
        });
        match weights {
            Weights::Packed(panels) => {
                panels
                    .iter()
                    .for_each(|panel| self.by_channel(out, &panel, blocks.clone(), bias, block));
            }
            Weights::Broadcast(weights) => {
                blocks.for_each(|(images, places)| {
                    self.by_place(out, images, places, weights, bias, block)
                });
            }
        }
    }

    /// Computes the sums of a panel of channels, block by block.
    fn by_channel<'a, T: Float>(
        &self,
        out: &mut [T],
        panel: &PackedPanel<'_, T>,
        blocks: impl Iterator<Item = (Operand<'a, T>, &'a [usize])>,
        bias: &[T],
        block: &mut Vec<T>,
    ) {
        let channels = &self.channels[panel.columns.clone()];
        let mut start = bias.get(panel.columns.clone()).unwrap_or_default().to_vec();
        start.resize(panel.width, T::default());
        for (images, places) in blocks {
            block.resize(places.len() * panel.width, T::default());
            panel.product(block, &start, images);
            place_columns(out, places, channels, block);
        }
    }

    /// Computes the sums of one block, by panels of places.
    fn by_place<T: Float>(
        &self,
        out: &mut [T],
        images: Operand<'_, T>,
        places: &[usize],
        weights: &[T],
        bias: &[T],
        block: &mut Vec<T>,
    ) {
        for_each_panel(images, |panel| {
            block.clear();
            block.resize(self.channels.len() * panel.width, T::default());
            let rows = block.chunks_exact_mut(panel.width);
            rows.zip(bias).for_each(|(row, &bias)| row.fill(bias));
            panel.add_product(block, self.weight_side(weights));
            place_rows(out, &self.channels, &places[panel.columns], block);
        });
    }
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

/// Puts the sums of a block in their places, where many rows are neighbours; columns lie a step apart.
pub(super) fn place_columns<T: Float>(
    out: &mut [T],
    rows: &[usize],
    columns: &[usize],
    block: &[T],
) {
    let [first, ref behind @ ..] = *columns else { return };
    let step = behind.first().map_or(1, |second| second - first);
    let lines = multiples(rows.len(), block.len() / rows.len().max(1));
    let mut lines = lines.as_slice();
    for run in rows.chunk_by(|row, next| row + 1 == *next) {
        let (of_run, others) = lines.split_at(run.len());
        transpose_rows(&mut out[run[0] + first..], step, block, of_run, columns.len());
        lines = others;
    }
}
