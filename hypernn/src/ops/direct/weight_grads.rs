//! The product that gives the gradients of weights.

use super::Direct;
use super::product::place_columns;
use crate::ops::panels::{Side, each_panel, steps, widths};
use crate::ops::scalar::Scalar;

/// The sides of the product that gives the weights' gradients: the gradients of outputs, and the values
/// that windows see.
const GRADS: usize = 0;
const WINDOWS: usize = 1;

/// Offsets of both sides, and which of them is packed: that with fewer columns.
pub(super) struct WeightGrads {
    /// Of the positions of a run, which are summed over.
    pub(super) positions: [Vec<usize>; 2],
    /// Of outputs, and of channels and taps.
    pub(super) columns: [Vec<usize>; 2],
    /// Of the same, in a weight matrix.
    places: [Vec<usize>; 2],
    packed: usize,
}

impl WeightGrads {
    pub(super) fn new(direct: &Direct) -> Self {
        let (positions, outputs) = (direct.windows.positions(), direct.channels[1]);
        Self {
            positions: [direct.output_places(), direct.window_columns()],
            columns: [steps(outputs, positions), direct.window_terms()],
            places: [steps(outputs, direct.inner()), steps(direct.inner(), 1)],
            packed: if outputs <= direct.inner() { GRADS } else { WINDOWS },
        }
    }

    /// The packed one first.
    fn sides(&self) -> [usize; 2] {
        [self.packed, 1 - self.packed]
    }

    /// How many of one group there are, with those behind the last of a panel.
    pub(super) fn sums<T: Scalar>(&self) -> usize {
        let [packed, spread] = self.sides().map(|side| self.columns[side].len());
        spread * widths::<T>(packed).map(|(_, width)| width).sum::<usize>()
    }

    pub(super) fn add_products<'a, T: Scalar>(
        &self,
        mut sums: &mut [T],
        side: impl Fn(usize) -> Side<'a, T>,
    ) {
        let [packed, spread] = self.sides().map(side);
        each_panel(packed, |panel| {
            let of_panel = sums.split_off_mut(..spread.columns.len() * panel.width);
            of_panel.into_iter().for_each(|of_panel| panel.add_product(of_panel, spread));
        });
    }

    /// Puts a set's sums in the order of its weights.
    pub(super) fn place<T: Scalar>(&self, weights: &mut [T], mut sums: &[T]) {
        let [packed, spread] = self.sides().map(|side| self.places[side].as_slice());
        for weights in weights.chunks_exact_mut(packed.len() * spread.len()) {
            for (columns, width) in widths::<T>(packed.len()) {
                let (of_panel, behind) = sums.split_at(spread.len() * width);
                place_columns(weights, spread, &packed[columns], of_panel);
                sums = behind;
            }
        }
    }
}
