//! The rows are packed, so that vectors lie along the rows of an output, and the weight is read where it
//! lies.

use super::{Linear, Offsets, Sizes};
use crate::error::Result;
use crate::executor::{Executor, for_products};
use crate::float::Float;
use crate::microkernel::{Operand, PackedOperand, multiples, widest_panel};
use crate::simd::dispatch;
use crate::transpose::transpose_rows;
use crate::uninit::{UninitWriter, write_columns};

/// Outputs that are computed for all rows before they are written.
const BLOCK: usize = 64;

impl<T: Float> Linear<'_, T> {
    /// The outputs, `[G, rows, out]`, with the rows packed.
    pub(super) fn by_rows(&self, executor: &dyn Executor) -> Result<Vec<T>> {
        let Sizes { sets, rows, outputs, .. } = self.sizes;
        let executor = for_products(executor, self.sizes.products());
        let offsets = Offsets::new(&self.sizes);
        write_columns([sets * rows, outputs], BLOCK, executor, |columns, writers| {
            for (set, writers) in writers.chunks_mut(rows.max(1)).enumerate() {
                let bias = self.bias(set, columns.clone());
                let weight = self.weight(set, columns.clone(), &offsets);
                write(writers, self.xs(set, &offsets), weight, bias);
            }
        })
    }
}

/// Some outputs of one set.
fn write<T: Float>(
    writers: &mut [UninitWriter<'_, T>],
    xs: Operand<'_, T>,
    weight: Operand<'_, T>,
    bias: Option<&[T]>,
) {
    let (packed, zeros) = (PackedOperand::pack(xs), vec![T::default(); widest_panel::<T>()]);
    let (mut sums, mut turned) = (Vec::new(), Vec::new());
    for (index, columns) in weight.columns.chunks(BLOCK).enumerate() {
        let outputs = columns.len();
        let bias = bias.map(|bias| &bias[index * BLOCK..][..outputs]);
        for panel in packed.iter() {
            sums.resize(outputs * panel.width, T::default());
            panel.product(&mut sums, &zeros[..panel.width], Operand { columns, ..weight });
            add_bias(&mut sums, panel.width, bias);
            let lines = multiples(outputs, panel.width);
            turned.resize(outputs * panel.width, T::default());
            transpose_rows(&mut turned, outputs, &sums, &lines, panel.columns.len());
            let rows = writers[panel.columns].iter_mut().zip(turned.chunks_exact(outputs));
            rows.for_each(|(writer, outputs)| writer.extend_from_slice(outputs));
        }
    }
}

/// Adds the bias to sums `[outputs, width]`.
fn add_bias<T: Float>(sums: &mut [T], width: usize, bias: Option<&[T]>) {
    let lines = sums.chunks_exact_mut(width).zip(bias.unwrap_or_default());
    dispatch(|| lines.for_each(|(line, &bias)| line.iter_mut().for_each(|sum| *sum += bias)));
}
