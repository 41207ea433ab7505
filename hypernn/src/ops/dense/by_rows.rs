//! The rows are packed, so that vectors lie along the rows of an output, and the weight is read where it
//! lies.

use std::ops::Range;

use super::{Layer, Offsets};
use crate::ops::linear::Sizes;
use crate::ops::panels::{Panels, Side, widest};
use crate::ops::pool::{self, Places};
use crate::ops::scalar::{Scalar, wide};
use crate::ops::transpose::TILE;

/// Outputs that are computed for all rows before they are written.
const BLOCK: usize = 48;

impl<T: Scalar> Layer<'_, T> {
    /// `[G, rows, out]`.
    pub(super) fn by_rows(&self) -> Vec<T> {
        let Sizes { sets, rows, inputs, outputs } = self.sizes;
        let threads = pool::threads_for(sets * rows * inputs * outputs);
        let offsets = Offsets::new(&self.sizes);
        pool::written_columns([sets * rows, outputs], (BLOCK, threads), |columns, places| {
            for (set, places) in places.chunks_mut(rows.max(1)).enumerate() {
                let bias = self.bias(set, columns.clone());
                let weight = self.weight(set, columns.clone(), &offsets);
                write(places, self.xs(set, &offsets), weight, bias);
            }
        })
    }
}

/// Some outputs of one set.
fn write<T: Scalar>(
    places: &mut [Places<'_, T>],
    xs: Side<'_, T>,
    weight: Side<'_, T>,
    bias: Option<&[T]>,
) {
    let (packed, zeros) = (Panels::pack(xs), vec![T::default(); widest::<T>()]);
    let mut sums = Vec::new();
    for (index, columns) in weight.columns.chunks(BLOCK).enumerate() {
        let bias = bias.map(|bias| &bias[index * BLOCK..][..columns.len()]);
        for panel in packed.iter() {
            sums.resize(columns.len() * panel.width, T::default());
            panel.product(&mut sums, &zeros[..panel.width], Side { columns, ..weight });
            add_bias(&mut sums, panel.width, bias);
            append_columns(&mut places[panel.columns], &sums, panel.width);
        }
    }
}

/// To `[outputs, width]`.
fn add_bias<T: Scalar>(sums: &mut [T], width: usize, bias: Option<&[T]>) {
    let lines = sums.chunks_exact_mut(width).zip(bias.unwrap_or_default());
    wide(|| lines.for_each(|(line, &bias)| line.iter_mut().for_each(|sum| *sum += bias)));
}

/// Appends each column of `[outputs, width]` to its row.
fn append_columns<T: Scalar>(rows: &mut [Places<'_, T>], sums: &[T], width: usize) {
    let outputs = sums.len() / width;
    let in_tiles = outputs - outputs % TILE;
    let (tiles, last) = rows.as_chunks_mut();
    for (index, rows) in tiles.iter_mut().enumerate() {
        for output in (0..in_tiles).step_by(TILE) {
            append_tile(rows, &sums[output * width + index * TILE..], width);
        }
        append_values(rows, sums, (index * TILE, in_tiles..outputs), width);
    }
    append_values(last, sums, (tiles.len() * TILE, 0..outputs), width);
}

#[inline(always)]
fn append_tile<T: Scalar>(rows: &mut [Places<'_, T>; TILE], sums: &[T], width: usize) {
    let tile =
        [four(sums), four(&sums[width..]), four(&sums[2 * width..]), four(&sums[3 * width..])];
    rows.iter_mut().zip(&T::transposed(tile)).for_each(|(row, four)| row.extend_from_slice(four));
}

fn four<T: Scalar>(values: &[T]) -> [T; TILE] {
    let mut four = [T::default(); TILE];
    four.copy_from_slice(&values[..TILE]);
    four
}

/// Appends some outputs of rows from the first on, one by one.
fn append_values<T: Scalar>(
    rows: &mut [Places<'_, T>],
    sums: &[T],
    (first, outputs): (usize, Range<usize>),
    width: usize,
) {
    for (row, places) in rows.iter_mut().enumerate() {
        places.extend(outputs.clone().map(|output| sums[output * width + first + row]));
    }
}
