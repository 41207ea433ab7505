//! The rows are packed, so that vectors lie along the rows of an output, and the weight is read where it
//! lies.

use super::{Layer, Offsets};
use crate::ops::linear::Sizes;
use crate::ops::panels::{Panels, Side, steps, widest};
use crate::ops::pool::{self, Places};
use crate::ops::scalar::{Scalar, wide};
use crate::ops::transpose::transpose;

/// Outputs that are computed for all rows before they are written.
const BLOCK: usize = 64;

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
    let (mut sums, mut turned) = (Vec::new(), Vec::new());
    for (index, columns) in weight.columns.chunks(BLOCK).enumerate() {
        let outputs = columns.len();
        let bias = bias.map(|bias| &bias[index * BLOCK..][..outputs]);
        for panel in packed.iter() {
            sums.resize(outputs * panel.width, T::default());
            panel.product(&mut sums, &zeros[..panel.width], Side { columns, ..weight });
            add_bias(&mut sums, panel.width, bias);
            let lines = steps(outputs, panel.width);
            turned.resize(outputs * panel.width, T::default());
            transpose(&mut turned, outputs, (&sums, &lines), panel.columns.len());
            let rows = places[panel.columns].iter_mut().zip(turned.chunks_exact(outputs));
            rows.for_each(|(places, outputs)| places.extend_from_slice(outputs));
        }
    }
}

/// To `[outputs, width]`.
fn add_bias<T: Scalar>(sums: &mut [T], width: usize, bias: Option<&[T]>) {
    let lines = sums.chunks_exact_mut(width).zip(bias.unwrap_or_default());
    wide(|| lines.for_each(|(line, &bias)| line.iter_mut().for_each(|sum| *sum += bias)));
}
