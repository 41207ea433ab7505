//! `x wᵀ + b`, for one or several sets of weights.
//!
//! One side is packed through registers, the other is read where it lies, and outputs are written once, with all
//! that is added to them. `gemm` packs a transposed weight value by value, which takes as long as to multiply it by
//! some twenty rows, and several times as long where its rows lie a power of two apart.

mod packed_rows;
mod packed_weight;

use std::ops::Range;

pub use packed_weight::Epilogue;

use crate::error::{Result, count, ensure_at_least};
use crate::executor::Executor;
use crate::float::Float;
use crate::microkernel::{Operand, multiples};
use crate::tuning::{LayerChoice, tuning};

/// The sizes of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Sets of weights, `G`, each for its own rows.
    pub sets: usize,
    /// Rows of one set.
    pub rows: usize,
    /// The length of a row, `in`.
    pub inputs: usize,
    /// The length of a row of outputs, `out`.
    pub outputs: usize,
}

impl Sizes {
    /// Whether inputs and outputs together are no more values than the weight.
    pub fn sides_are_fewer(&self) -> bool {
        self.sides_are_within(6)
    }

    /// Whether [`Linear`] is faster than a [product](mod@crate::matmul) of rows and transposed weight, to which the
    /// bias is added. It is not where there are few rows or outputs, or little to compute; with AVX2 also not where
    /// rows and outputs are many more values than the weight.
    ///
    /// ```
    /// use hypernn_kernels::linear::Sizes;
    ///
    /// assert!(Sizes { sets: 1, rows: 64, inputs: 784, outputs: 256 }.are_worth_packing());
    /// assert!(!Sizes { sets: 1, rows: 1, inputs: 784, outputs: 256 }.are_worth_packing());
    /// ```
    pub fn are_worth_packing(&self) -> bool {
        self.are_worth_packing_by(&tuning().layer)
    }

    fn are_worth_packing_by(&self, choice: &LayerChoice) -> bool {
        let Self { rows, inputs, outputs, .. } = *self;
        let weight = inputs.saturating_mul(outputs);
        rows >= choice.least_rows
            && outputs >= choice.least_outputs
            && weight >= choice.least_weight
            && weight.saturating_mul(rows) >= choice.least_products
            && choice.most_sides.is_none_or(|sixths| self.sides_are_within(sixths))
    }

    /// Whether inputs and outputs together are no more values than so many sixths of the weight.
    fn sides_are_within(&self, sixths: usize) -> bool {
        let sides = self.rows.saturating_mul(self.inputs.saturating_add(self.outputs));
        sides.saturating_mul(6) <= self.inputs.saturating_mul(self.outputs).saturating_mul(sixths)
    }

    /// How many outputs there are of all sets and rows.
    fn len(&self) -> Result<usize> {
        count("linear", &[self.sets, self.rows, self.outputs])
    }

    fn products(&self) -> usize {
        (self.sets * self.rows * self.outputs).saturating_mul(self.inputs)
    }
}

/// A linear layer and its input: `xs [G, rows, in]`, `weight [G, out, in]` and `bias [G, out]`, row-major.
///
/// ```
/// use hypernn_kernels::executor::ScopedThreads;
/// use hypernn_kernels::linear::{Linear, Sizes};
///
/// let sizes = Sizes { sets: 1, rows: 1, inputs: 2, outputs: 3 };
/// let layer = Linear::new(sizes, &[1f64, 2.], &[1., 0., 0., 1., 1., 1.], None)?;
/// assert_eq!(layer.outputs(&ScopedThreads::new(2))?, [1., 2., 3.]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a, T> {
    sizes: Sizes,
    xs: &'a [T],
    weight: &'a [T],
    bias: Option<&'a [T]>,
}

impl<'a, T: Float> Linear<'a, T> {
    /// A layer over slices that begin with these values; what lies behind is left out.
    ///
    /// # Errors
    /// A slice has fewer values than the sizes say.
    pub fn new(sizes: Sizes, xs: &'a [T], weight: &'a [T], bias: Option<&'a [T]>) -> Result<Self> {
        let Sizes { sets, rows, inputs, outputs } = sizes;
        sizes.len()?;
        ensure_at_least("linear", "the input", xs.len(), count("linear", &[sets, rows, inputs])?)?;
        let weights = count("linear", &[sets, outputs, inputs])?;
        ensure_at_least("linear", "the weight", weight.len(), weights)?;
        if let Some(bias) = bias {
            ensure_at_least("linear", "the bias", bias.len(), count("linear", &[sets, outputs])?)?;
        }
        Ok(Self { sizes, xs, weight, bias })
    }

    /// `[G, rows, out]`.
    ///
    /// # Errors
    /// The executor left out a part.
    pub fn outputs(&self, executor: &dyn Executor) -> Result<Vec<T>> {
        // It takes less to pack the rows, and to write transposed outputs, than to pack the weight.
        if self.sizes.sides_are_within(tuning().layer.packed_rows) {
            return self.by_rows(executor);
        }
        let len = self.sizes.len()?;
        let all = Epilogue { vector: Some(0), ..Epilogue::left_out(len) };
        Ok(self.outputs_to(&[len], &[all], executor)?.pop().unwrap_or_default())
    }

    /// The inputs of one set.
    fn xs<'b>(&self, set: usize, offsets: &'b Offsets) -> Operand<'b, T>
    where
        'a: 'b,
    {
        let Sizes { rows, inputs, .. } = self.sizes;
        let values = &self.xs[set * rows * inputs..];
        Operand { values, terms: &offsets.terms, columns: &offsets.rows }
    }

    /// The weights of some outputs of one set, `[outputs, in]`.
    fn weight<'b>(&self, set: usize, outputs: Range<usize>, offsets: &'b Offsets) -> Operand<'b, T>
    where
        'a: 'b,
    {
        let values = &self.weight[set * self.sizes.outputs * self.sizes.inputs..];
        Operand { values, terms: &offsets.terms, columns: &offsets.outputs[outputs] }
    }

    /// Some outputs' biases of one set, `[outputs]`, where there is a bias.
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
        Self {
            terms: multiples(inputs, 1),
            rows: multiples(rows, inputs),
            outputs: multiples(outputs, inputs),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::executor::{ScopedThreads, Sequential};

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
        fn new(sizes: [usize; 4]) -> Self {
            let [sets, rows, inputs, outputs] = sizes;
            Self {
                sizes: Sizes { sets, rows, inputs, outputs },
                xs: numbers(sets * rows * inputs, 1),
                weight: numbers(sets * outputs * inputs, 2),
                bias: numbers(sets * outputs, 3),
            }
        }

        fn layer(&self, biased: bool) -> Linear<'_, f32> {
            let Self { sizes, xs, weight, bias } = self;
            Linear::new(*sizes, xs, weight, biased.then_some(bias)).unwrap()
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
        let threads = ScopedThreads::new(2);
        for (case, biased) in cases().iter().flat_map(|case| [(case, false), (case, true)]) {
            let (layer, expected) = (case.layer(biased), case.by_hand(biased));
            assert_eq!(layer.outputs(&threads).unwrap(), expected, "{:?}", case.sizes);
            assert_eq!(layer.by_rows(&threads).unwrap(), expected, "{:?}", case.sizes);
        }
    }

    /// Runs that begin and end within a vector of lanes, at the end of a row, and across rows, in two
    /// vectors and in none.
    #[test]
    fn outputs_go_where_the_epilogue_says() {
        for case in cases() {
            let outputs = case.by_hand(true);
            let (mut expected, mut epilogues) = (vec![Vec::new(); 2], Vec::new());
            let mut left = outputs.as_slice();
            for (i, len) in [1, 6, 0, 42, 1, 1, 149, 100, 5000].into_iter().enumerate() {
                let (now, behind) = left.split_at(len.min(left.len()));
                let (vector, scale, shift) =
                    ((i % 3).checked_sub(1), (i % 4) as f32, (i % 2) as f32);
                let values = now.iter().map(|output| output * scale + shift);
                vector.into_iter().for_each(|vector| expected[vector].extend(values.clone()));
                epilogues.push(Epilogue { len: now.len(), vector, scale, shift });
                left = behind;
            }
            let lens = [expected[0].len(), expected[1].len()];
            let found = case.layer(true).outputs_to(&lens, &epilogues, &ScopedThreads::new(2));
            assert_eq!(found.unwrap(), expected, "{:?}", case.sizes);
        }
    }

    /// On both sides of each limit.
    #[test]
    fn a_layer_is_computed_here_where_that_was_measured_to_be_faster() {
        let choice = LayerChoice {
            least_rows: 8,
            least_outputs: 32,
            least_weight: 4096,
            least_products: 65_536,
            most_sides: Some(6),
            packed_rows: 5,
        };
        let found = |[rows, inputs, outputs]: [usize; 3]| {
            let sizes = Sizes { sets: 1, rows, inputs, outputs };
            (sizes.are_worth_packing_by(&choice), sizes.sides_are_within(choice.packed_rows))
        };
        assert_eq!(found([64, 128, 128]), (true, false));
        assert_eq!(found([65, 128, 128]), (false, false));
        assert_eq!(found([53, 128, 128]), (true, true));
        assert_eq!(found([8, 128, 128]), (true, true));
        assert_eq!(found([7, 128, 128]), (false, true));
        assert_eq!(found([16, 1024, 32]), (true, true));
        assert_eq!(found([16, 1024, 31]), (false, true));
        assert_eq!(found([16, 64, 64]), (true, true));
        assert_eq!(found([16, 63, 64]), (false, true));
        assert_eq!(found([15, 64, 64]), (false, true));
    }

    #[test]
    fn slices_that_are_too_short_are_refused() {
        let sizes = Sizes { sets: 2, rows: 3, inputs: 4, outputs: 5 };
        let message = |[xs, weight, bias]: [usize; 3]| {
            let [xs, weight, bias] = [xs, weight, bias].map(|len| vec![0f32; len]);
            Linear::new(sizes, &xs, &weight, Some(&bias))
                .map(drop)
                .map_err(|error| error.to_string())
        };
        let error = |message: &str| Err(message.to_owned());
        assert_eq!(message([24, 40, 10]), Ok(()));
        assert_eq!(message([23, 40, 10]), error("linear: the input has 23 values, expected 24"));
        assert_eq!(message([24, 39, 10]), error("linear: the weight has 39 values, expected 40"));
        assert_eq!(message([24, 40, 9]), error("linear: the bias has 9 values, expected 10"));
        let sizes = Sizes { inputs: 0, rows: 1 << 40, outputs: 1 << 40, ..sizes };
        let found = Linear::<f32>::new(sizes, &[], &[], None).map_err(|error| error.to_string());
        assert_eq!(found.map(drop), error("linear: more values than can be counted"));
    }

    /// Runs of a vector that are more or fewer than it has values, and a vector that there is not.
    #[test]
    fn an_epilogue_that_does_not_fill_its_vectors_is_refused() {
        let case = Case::new([1, 2, 3, 4]);
        let message = |len, vector| {
            let run = Epilogue { vector: Some(vector), ..Epilogue::left_out(len) };
            let found = case.layer(true).outputs_to(&[5], &[run], &Sequential);
            found.map(drop).map_err(|error| error.to_string())
        };
        let error = |message: &str| Err(message.to_owned());
        assert_eq!(message(5, 0), Ok(()));
        let expected = "linear: the vector has 5 values, expected ";
        assert_eq!(message(4, 0), error(&format!("{expected}4")));
        assert_eq!(message(6, 0), error(&format!("{expected}6")));
        assert_eq!(message(5, 1), error("linear: the list of vectors has 1 values, expected 2"));
    }
}
