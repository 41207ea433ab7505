//! `x wᵀ + b` on the CPU, in f32 and f64.
//!
//! One side is packed through registers (`transpose`), the other is read where it lies (`panels`), and
//! outputs are written once, with all that is added to them. `gemm` packs a transposed weight value by
//! value, which takes as long as to multiply it by some twenty rows, and several times as long where its
//! rows lie a power of two apart.

mod by_outputs;
mod by_rows;

use std::ops::Range;

pub(super) use by_outputs::Target;

use super::gemm::DIRECT;
use super::linear::Sizes;
use super::panels::{Side, steps};
use super::scalar::Scalar;

/// The least rows and outputs: of fewer, most lanes of a vector would be empty.
const LEAST: usize = 8;

/// Multiplications below which to prepare takes as long as they do.
const LEAST_PRODUCTS: usize = 1 << 18;

/// `xs [G, rows, in]`, `weight [G, out, in]` and `bias [G, out]`, row-major.
pub(super) struct Layer<'a, T> {
    pub(super) sizes: Sizes,
    pub(super) xs: &'a [T],
    pub(super) weight: &'a [T],
    pub(super) bias: Option<&'a [T]>,
}

/// Whether a product is computed here.
pub(super) fn serves(sizes: &Sizes) -> bool {
    let Sizes { rows, inputs, outputs, .. } = *sizes;
    DIRECT && rows.min(outputs) >= LEAST && rows * inputs * outputs >= LEAST_PRODUCTS
}

impl<'a, T: Scalar> Layer<'a, T> {
    /// `[G, rows, out]`.
    pub(super) fn outputs(&self) -> Vec<T> {
        // It takes less to pack the rows, and to write transposed outputs, than to pack the weight.
        if self.sizes.sides_are_fewer() {
            return self.by_rows();
        }
        let len = self.sizes.values();
        let all = Target { vector: Some(0), ..Target::left_out(len) };
        self.by_outputs(&[len], &[all]).pop().unwrap_or_default()
    }

    /// The inputs of one set.
    fn xs<'b>(&self, set: usize, offsets: &'b Offsets) -> Side<'b, T>
    where
        'a: 'b,
    {
        let Sizes { rows, inputs, .. } = self.sizes;
        let values = &self.xs[set * rows * inputs..];
        Side { values, terms: &offsets.terms, columns: &offsets.rows }
    }

    /// Some outputs' weights of one set.
    fn weight<'b>(&self, set: usize, outputs: Range<usize>, offsets: &'b Offsets) -> Side<'b, T>
    where
        'a: 'b,
    {
        let values = &self.weight[set * self.sizes.outputs * self.sizes.inputs..];
        Side { values, terms: &offsets.terms, columns: &offsets.outputs[outputs] }
    }

    /// Likewise of the bias.
    fn bias(&self, set: usize, outputs: Range<usize>) -> Option<&'a [T]> {
        self.bias.map(|bias| &bias[set * self.sizes.outputs..][outputs])
    }
}

/// Where the values of both sides lie.
struct Offsets {
    terms: Vec<usize>,
    rows: Vec<usize>,
    outputs: Vec<usize>,
}

impl Offsets {
    fn new(sizes: &Sizes) -> Self {
        let Sizes { rows, inputs, outputs, .. } = *sizes;
        Self { terms: steps(inputs, 1), rows: steps(rows, inputs), outputs: steps(outputs, inputs) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers, so that sums are exact.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 23) as f32 - 11.).collect()
    }

    struct Case {
        sizes: Sizes,
        xs: Vec<f32>,
        weight: Vec<f32>,
        bias: Vec<f32>,
    }

    impl Case {
        fn new([sets, rows, inputs, outputs]: [usize; 4]) -> Self {
            Self {
                sizes: Sizes { sets, rows, inputs, outputs },
                xs: numbers(sets * rows * inputs, 1),
                weight: numbers(sets * outputs * inputs, 2),
                bias: numbers(sets * outputs, 3),
            }
        }

        fn layer(&self, biased: bool) -> Layer<'_, f32> {
            let Self { sizes, xs, weight, bias } = self;
            Layer { sizes: *sizes, xs, weight, bias: biased.then_some(bias) }
        }

        fn by_hand(&self, biased: bool) -> Vec<f32> {
            let Sizes { sets, rows, inputs, outputs } = self.sizes;
            let output = |set: usize, row: usize, output: usize| {
                let xs = self.xs[(set * rows + row) * inputs..].iter().take(inputs);
                let output = set * outputs + output;
                let sum: f32 = xs.zip(&self.weight[output * inputs..]).map(|(x, w)| x * w).sum();
                if biased { sum + self.bias[output] } else { sum }
            };
            let of_row = |set, row| (0..outputs).map(move |out| (set, row, out));
            let all = (0..sets).flat_map(|set| (0..rows).flat_map(move |row| of_row(set, row)));
            all.map(|(set, row, out)| output(set, row, out)).collect()
        }
    }

    /// Around lanes, panels and blocks, of one set and of several, on one thread and on more.
    fn cases() -> Vec<Case> {
        let sizes =
            [[1, 1, 1, 1], [1, 9, 5, 49], [2, 33, 7, 96], [3, 130, 4, 3], [1, 70, 200, 100]];
        let none = [[1, 0, 3, 2], [1, 3, 2, 0]];
        sizes.into_iter().chain(none).map(Case::new).collect()
    }

    #[test]
    fn outputs_are_those_by_hand() {
        for (case, biased) in cases().iter().flat_map(|case| [(case, false), (case, true)]) {
            let (layer, expected) = (case.layer(biased), case.by_hand(biased));
            assert_eq!(layer.outputs(), expected, "{:?}", case.sizes);
            assert_eq!(layer.by_rows(), expected, "{:?}", case.sizes);
        }
    }

    /// Targets that begin and end within a vector of lanes, at the end of a row, and across rows, in two
    /// vectors and in none.
    #[test]
    fn outputs_go_to_their_targets() {
        for case in cases() {
            let outputs = case.by_hand(true);
            let (mut expected, mut targets) = (vec![Vec::new(); 2], Vec::new());
            let mut left = outputs.as_slice();
            for (i, len) in [1, 6, 0, 42, 1, 1, 149, 100, 5000].into_iter().enumerate() {
                let (now, behind) = left.split_at(len.min(left.len()));
                let (vector, scale, shift) =
                    ((i % 3).checked_sub(1), (i % 4) as f32, (i % 2) as f32);
                let values = now.iter().map(|output| output * scale + shift);
                vector.into_iter().for_each(|vector| expected[vector].extend(values.clone()));
                targets.push(Target { len: now.len(), vector, scale, shift });
                left = behind;
            }
            let lens = [expected[0].len(), expected[1].len()];
            assert_eq!(case.layer(true).by_outputs(&lens, &targets), expected, "{:?}", case.sizes);
        }
    }
}
