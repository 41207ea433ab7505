//! The product that gives the gradients of weights.

use super::Convolution;
use super::product::place_columns;
use crate::float::Float;
use crate::microkernel::{Operand, for_each_panel, multiples, panel_widths};

/// The sides of the product that gives the weights' gradients: the gradients of outputs, and the values
/// that windows see.
const GRADS: usize = 0;
const WINDOWS: usize = 1;

/// Offsets of both sides, and which of them is packed: that with fewer columns.
pub(super) struct WeightGrads {
    /// Offsets of the positions of a run, which are summed over.
    pub(super) positions: [Vec<usize>; 2],
    /// Offsets of the outputs, and of channels and taps, in their values.
    pub(super) columns: [Vec<usize>; 2],
    /// Offsets of the outputs, and of channels and taps, in a weight matrix.
    places: [Vec<usize>; 2],
    packed: usize,
}

impl WeightGrads {
    pub(super) fn new(conv: &Convolution<'_>) -> Self {
        let (positions, outputs) = (conv.windows.positions(), conv.channels.outputs);
        Self {
            positions: [conv.output_places(), conv.window_columns()],
            columns: [multiples(outputs, positions), conv.window_terms()],
            places: [multiples(outputs, conv.inner()), multiples(conv.inner(), 1)],
            packed: if outputs <= conv.inner() { GRADS } else { WINDOWS },
        }
    }

    /// The packed one first.
    fn sides(&self) -> [usize; 2] {
        [self.packed, 1 - self.packed]
    }

    /// How many of one group there are, with those behind the last of a panel.
    pub(super) fn sums<T: Float>(&self) -> usize {
        let [packed, broadcast] = self.sides().map(|side| self.columns[side].len());
        broadcast * panel_widths::<T>(packed).map(|(_, width)| width).sum::<usize>()
    }

    pub(super) fn add_products<'a, T: Float>(
        &self,
        mut sums: &mut [T],
        side: impl Fn(usize) -> Operand<'a, T>,
    ) {
        let [packed, broadcast] = self.sides().map(side);
        for_each_panel(packed, |panel| {
            let of_panel = sums.split_off_mut(..broadcast.columns.len() * panel.width);
            of_panel.into_iter().for_each(|of_panel| panel.add_product(of_panel, broadcast));
        });
    }

    /// Puts a set's sums in the order of its weights.
    pub(super) fn place<T: Float>(&self, weights: &mut [T], mut sums: &[T]) {
        let [packed, broadcast] = self.sides().map(|side| self.places[side].as_slice());
        for weights in weights.chunks_exact_mut(packed.len() * broadcast.len()) {
            for (columns, width) in panel_widths::<T>(packed.len()) {
                let (of_panel, behind) = sums.split_at(broadcast.len() * width);
                place_columns(weights, broadcast, &packed[columns], of_panel);
                sums = behind;
            }
        }
    }
}
