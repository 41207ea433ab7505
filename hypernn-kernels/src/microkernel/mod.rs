//! The innermost loop of products: one side is packed, the other is read where it lies.
//!
//! `out[r, l] += Σ_k left(k, l) × right(k, r)`: the left side is packed into panels, a few vectors wide,
//! and of the right side each value is broadcast to a vector. Nothing is copied for it, so a convolution
//! needs no matrix of columns (Dukhan, "The Indirect Convolution Algorithm", arXiv:1907.02129; here
//! offsets serve for pointers).
//!
//! It is compiled for each set of vector instructions that `pulp` knows, and runs by the widest that the
//! machine has and [`InstructionSet`](crate::simd::InstructionSet) allows.

#![allow(unsafe_code, reason = "a look at each bound takes a tenth of the time")]

mod strip;

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::simd::{SimdScalar, arch};
use crate::transpose::{TILE, transpose_rows};

pub(crate) use strip::{Scaling, StripRows, for_each_strip, strip_width};

/// Columns that are summed up side by side: with two vectors of a panel, these are as many sums as
/// sixteen registers hold beside what is multiplied, and with four as many as thirty-two do.
const SIDE_BY_SIDE: usize = 6;

/// The most of the last columns that are summed up side by side, where fewer are left.
const FEW: usize = 4;

/// Terms that are summed up for all columns before the next are: of a panel, what lies in the cache.
const TERMS: usize = 1024;

/// Bytes of a line of the cache: a vector that lies in two takes two loads.
const LINE: usize = 64;

/// The packed side of a product.
pub(crate) struct PackedOperand<T> {
    values: Vec<T>,
    /// Where they begin: at the start of a line of the cache.
    start: usize,
    terms: usize,
    size: usize,
    vectors: RegisterShape,
}

/// Some columns of the packed side, `[terms, width]`; what lies behind the last, nobody looks at.
pub(crate) struct PackedPanel<'a, T> {
    values: &'a [T],
    /// Which they are.
    pub(crate) columns: Range<usize>,
    /// How many there are with those behind the last.
    pub(crate) width: usize,
}

/// One side of a product: value `k` of a column lies `terms[k]` values behind that of the column.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) terms: &'a [usize],
    pub(crate) columns: &'a [usize],
}

impl<'a, T: SimdScalar> Operand<'a, T> {
    /// Itself, after each column was seen to have a value at every term.
    fn checked(self) -> Self {
        let [term, column] = [self.terms, self.columns].map(|list| list.iter().max());
        let end = term.zip(column).map_or(0, |(term, column)| term + column + 1);
        assert!(end <= self.values.len(), "{end} of {} values", self.values.len());
        self
    }

    /// This side of the product with some of its columns alone.
    fn of(self, columns: &'a [usize]) -> Self {
        Self { columns, ..self }
    }

    /// Writes `[terms, width]`.
    fn pack(self, mut panel: &mut [T], width: usize) {
        for run in self.terms.chunk_by(|term, next| term + 1 == *next) {
            let (rows, behind) = panel.split_at_mut(run.len() * width);
            self.pack_run(rows, width, run);
            panel = behind;
        }
    }

    /// Terms that lie side by side.
    fn pack_run(self, rows: &mut [T], width: usize, run: &[usize]) {
        let values = &self.values[run[0]..];
        if run.len() >= TILE {
            return transpose_rows(rows, width, values, self.columns, run.len());
        }
        for (index, row) in rows.chunks_exact_mut(width).enumerate() {
            let row = row.iter_mut().zip(self.columns);
            row.for_each(|(to, column)| *to = values[column + index]);
        }
    }
}

/// The first so many multiples of a step.
pub(crate) fn multiples(count: usize, step: usize) -> Vec<usize> {
    (0..count).map(|i| i * step).collect()
}

/// What the machine has: numbers in a vector, and the most vectors of a panel.
#[derive(Clone, Copy, Debug)]
struct RegisterShape {
    lanes: usize,
    most: usize,
}

struct Count<T>(PhantomData<T>);

impl<T: SimdScalar> WithSimd for Count<T> {
    type Output = RegisterShape;

    fn with_simd<S: Simd>(self, _: S) -> RegisterShape {
        RegisterShape { lanes: T::lanes::<S>(), most: if S::REGISTER_COUNT < 32 { 2 } else { 4 } }
    }
}

impl RegisterShape {
    fn of<T: SimdScalar>() -> Self {
        arch().dispatch(Count(PhantomData::<T>))
    }

    /// The columns of each panel of a matrix with so many, and their width.
    fn panels(self, size: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
        let step = self.lanes * self.most;
        (0..size).step_by(step).map(move |start| {
            let columns = start..size.min(start + step);
            let width = columns.len().next_multiple_of(self.lanes);
            (columns, width)
        })
    }
}

/// The columns of each panel of a matrix with so many, and the panel's width.
pub(crate) fn panel_widths<T: SimdScalar>(
    size: usize,
) -> impl Iterator<Item = (Range<usize>, usize)> {
    RegisterShape::of::<T>().panels(size)
}

/// The columns of the widest panel.
pub(crate) fn widest_panel<T: SimdScalar>() -> usize {
    let RegisterShape { lanes, most } = RegisterShape::of::<T>();
    lanes * most
}

impl<T: SimdScalar> PackedOperand<T> {
    pub(crate) fn pack(side: Operand<'_, T>) -> Self {
        Self::pack_for(RegisterShape::of::<T>(), side)
    }

    fn pack_for(vectors: RegisterShape, side: Operand<'_, T>) -> Self {
        let (terms, size) = (side.terms.len(), side.columns.len());
        let width = vectors.panels(size).map(|(_, width)| width).sum::<usize>();
        let (mut values, start) = lines(width * terms);
        let mut room = &mut values[start..];
        for (columns, width) in vectors.panels(size) {
            let (panel, behind) = room.split_at_mut(width * terms);
            side.of(&side.columns[columns]).pack(panel, width);
            room = behind;
        }
        Self { values, start, terms, size, vectors }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = PackedPanel<'_, T>> {
        let mut values = &self.values[self.start..];
        self.vectors.panels(self.size).map(move |(columns, width)| {
            let (panel, behind) = values.split_at(self.terms * width);
            values = behind;
            PackedPanel { values: panel, columns, width }
        })
    }
}

/// Packs a left side panel by panel, each in the place of the one before, for `look` alone.
pub(crate) fn for_each_panel<T: SimdScalar>(
    side: Operand<'_, T>,
    mut look: impl FnMut(PackedPanel<'_, T>),
) {
    let (vectors, terms) = (RegisterShape::of::<T>(), side.terms.len());
    let widest = vectors.panels(side.columns.len()).next().map_or(0, |(_, width)| width);
    let (mut values, start) = lines(widest * terms);
    for (columns, width) in vectors.panels(side.columns.len()) {
        let panel = &mut values[start..][..width * terms];
        side.of(&side.columns[columns.clone()]).pack(panel, width);
        look(PackedPanel { values: panel, columns, width });
    }
}

/// Room for so many values, and the place in it where a line of the cache begins.
fn lines<T: SimdScalar>(len: usize) -> (Vec<T>, usize) {
    let values = vec![T::default(); len + LINE / size_of::<T>()];
    let start = values.as_ptr().align_offset(LINE);
    (values, start)
}

impl<T: SimdScalar> PackedPanel<'_, T> {
    /// Writes the product with a right side to `out`, `[columns, width]`, each row added to `start`.
    pub(crate) fn product(&self, out: &mut [T], start: &[T], right: Operand<'_, T>) {
        arch().dispatch(self.accumulators(out, Some(start), right));
    }

    /// Gives the product with a right side to `store`, row by row, each added to `start`.
    pub(crate) fn product_into(
        &self,
        start: &[T],
        right: Operand<'_, T>,
        store: impl StoreRows<T>,
    ) {
        let to = RowByRow { start, store };
        arch().dispatch(PanelProduct { panel: self, right, to });
    }

    /// Adds the product to what is in `out`.
    pub(crate) fn add_product(&self, out: &mut [T], right: Operand<'_, T>) {
        arch().dispatch(self.accumulators(out, None, right));
    }

    fn accumulators<'a>(
        &'a self,
        out: &'a mut [T],
        start: Option<&'a [T]>,
        right: Operand<'a, T>,
    ) -> PanelProduct<'a, T, Accumulators<'a, T>> {
        let (found, expected) = (out.len(), right.columns.len() * self.width);
        assert!(found == expected, "{found} places for {expected} sums");
        PanelProduct { panel: self, right, to: Accumulators { out, start } }
    }
}

/// A product, and what becomes of it.
struct PanelProduct<'a, T, D> {
    panel: &'a PackedPanel<'a, T>,
    right: Operand<'a, T>,
    to: D,
}

/// Where a product goes.
trait Destination<T: SimdScalar> {
    /// Computes it, by a panel that is `V` vectors wide.
    fn take<S: Simd, const V: usize>(self, tile: Tile<'_, S, T, V>);
}

impl<T: SimdScalar, D: Destination<T>> WithSimd for PanelProduct<'_, T, D> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.panel.width * size_of::<T>() / size_of::<T::Register<S>>() {
            1 => self.run::<S, 1>(simd),
            2 => self.run::<S, 2>(simd),
            3 => self.run::<S, 3>(simd),
            _ => self.run::<S, 4>(simd),
        }
    }
}

impl<T: SimdScalar, D: Destination<T>> PanelProduct<'_, T, D> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let rows = T::as_registers::<S>(self.panel.values).as_chunks::<V>().0;
        self.to.take(Tile { simd, rows, right: self.right.checked() });
    }
}

/// The sums of one column: as many registers as a panel is wide.
type Accumulator<T, S, const V: usize> = [<T as SimdScalar>::Register<S>; V];

/// What becomes of the sums as they are computed.
pub(crate) trait StoreRows<T: SimdScalar> {
    /// The next row.
    fn row<S: Simd, const V: usize>(&mut self, simd: S, sums: [T::Register<S>; V]);
}

/// Row by row.
struct RowByRow<'a, T, P> {
    start: &'a [T],
    store: P,
}

impl<T: SimdScalar, P: StoreRows<T>> Destination<T> for RowByRow<'_, T, P> {
    #[inline(always)]
    fn take<S: Simd, const V: usize>(self, tile: Tile<'_, S, T, V>) {
        let (mut store, simd) = (self.store, tile.simd);
        let Some(start) = T::as_registers::<S>(self.start).first_chunk::<V>() else { return };
        let (columns, last) = tile.right.columns.as_chunks::<SIDE_BY_SIDE>();
        for columns in columns {
            // One by one, for a loop over registers is one over memory.
            let [a, b, c, d, e, f] = tile.summed(columns, [*start; SIDE_BY_SIDE]);
            store.row::<S, V>(simd, a);
            store.row::<S, V>(simd, b);
            store.row::<S, V>(simd, c);
            store.row::<S, V>(simd, d);
            store.row::<S, V>(simd, e);
            store.row::<S, V>(simd, f);
        }
        let (columns, last) = last.as_chunks::<FEW>();
        for columns in columns {
            let [a, b, c, d] = tile.summed(columns, [*start; FEW]);
            store.row::<S, V>(simd, a);
            store.row::<S, V>(simd, b);
            store.row::<S, V>(simd, c);
            store.row::<S, V>(simd, d);
        }
        let mut sums = [*start; FEW];
        let sums = &mut sums[..last.len()];
        tile.add_last(last, sums);
        sums.iter().for_each(|&sums| store.row::<S, V>(simd, sums));
    }
}

/// Adds a product to sums `[columns, width]`.
struct Accumulators<'a, T> {
    out: &'a mut [T],
    /// What every row starts from, if not from what is in it.
    start: Option<&'a [T]>,
}

impl<T: SimdScalar> Destination<T> for Accumulators<'_, T> {
    #[inline(always)]
    fn take<S: Simd, const V: usize>(self, tile: Tile<'_, S, T, V>) {
        let Tile { simd, rows, right } = tile;
        let sums = T::as_registers_mut::<S>(self.out).as_chunks_mut::<V>().0;
        let mut start = self.start.and_then(|start| T::as_registers::<S>(start).first_chunk::<V>());
        for (rows, terms) in rows.chunks(TERMS).zip(right.terms.chunks(TERMS)) {
            let right = Operand { terms, ..right };
            Tile { simd, rows, right }.add(sums, start.take());
        }
        // Without terms, nothing was added to it.
        if let Some(start) = start {
            sums.fill(*start);
        }
    }
}

/// The sums of some columns at a time.
struct Tile<'a, S: Simd, T: SimdScalar, const V: usize> {
    simd: S,
    rows: &'a [Accumulator<T, S, V>],
    /// Whose columns have a value at every term.
    right: Operand<'a, T>,
}

impl<S: Simd, T: SimdScalar, const V: usize> Tile<'_, S, T, V> {
    /// Adds to sums, or, where there is a start, to that.
    #[inline(always)]
    fn add(&self, sums: &mut [Accumulator<T, S, V>], start: Option<&Accumulator<T, S, V>>) {
        let (whole, few) = sums.as_chunks_mut::<SIDE_BY_SIDE>();
        let (columns, of_few) = self.right.columns.as_chunks::<SIDE_BY_SIDE>();
        for (sums, columns) in whole.iter_mut().zip(columns) {
            let from = start.map_or(*sums, |start| [*start; SIDE_BY_SIDE]);
            *sums = self.summed(columns, from);
        }
        let (few, last) = few.as_chunks_mut::<FEW>();
        let (columns, of_last) = of_few.as_chunks::<FEW>();
        for (sums, columns) in few.iter_mut().zip(columns) {
            let from = start.map_or(*sums, |start| [*start; FEW]);
            *sums = self.summed(columns, from);
        }
        start.into_iter().for_each(|start| last.fill(*start));
        self.add_last(of_last, last);
    }

    /// Adds the products of the last columns, at most `FEW`, of which there may be none.
    #[inline(always)]
    fn add_last(&self, columns: &[usize], sums: &mut [Accumulator<T, S, V>]) {
        let ([first, ..], [sum, ..]) = (columns, &*sums) else { return };
        let (mut all, mut from) = ([*first; FEW], [*sum; FEW]);
        all[..columns.len()].copy_from_slice(columns);
        from[..columns.len()].copy_from_slice(sums);
        sums.copy_from_slice(&self.summed(&all, from)[..columns.len()]);
    }

    /// The sums with the products of all terms, for some of the right side's columns.
    #[inline(always)]
    fn summed<const N: usize>(
        &self,
        columns: &[usize; N],
        mut sums: [Accumulator<T, S, V>; N],
    ) -> [Accumulator<T, S, V>; N] {
        let Self { simd, rows, right } = *self;
        // By hand, for `map` would be a call, and registers would be in memory across it.
        let mut behind = [right.values; N];
        for (values, &column) in behind.iter_mut().zip(columns) {
            *values = &values[column..];
        }
        for (row, &term) in rows.iter().zip(right.terms) {
            for (sums, values) in sums.iter_mut().zip(behind) {
                // SAFETY: a column has a value at every term.
                let value = T::splat(simd, unsafe { *values.get_unchecked(term) });
                for (sum, &left) in sums.iter_mut().zip(row) {
                    *sum = T::multiply_add(simd, left, value, *sum);
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use pulp::Scalar;

    use super::*;

    /// Whole numbers, so that sums are exact in any order.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 23) as f32 - 11.).collect()
    }

    struct Case {
        left: Vec<f32>,
        right: Vec<f32>,
        terms: [Vec<usize>; 2],
        columns: [Vec<usize>; 2],
    }

    impl Case {
        /// Of each side the terms lie seven values apart in no order, the columns three.
        fn new(terms: usize, left: usize, right: usize) -> Self {
            let shuffled = |step| (0..terms).rev().map(|term| term * step).collect::<Vec<_>>();
            let columns = |count: usize| (0..count).map(|column| column * 3).collect::<Vec<_>>();
            Self {
                left: numbers(terms * 7 + left * 3, 1),
                right: numbers(terms * 2 + right * 3, 2),
                terms: [shuffled(7), shuffled(2)],
                columns: [columns(left), columns(right)],
            }
        }

        fn sides(&self) -> [Operand<'_, f32>; 2] {
            let values = [&self.left, &self.right];
            [0, 1].map(|side| Operand {
                values: values[side],
                terms: &self.terms[side],
                columns: &self.columns[side],
            })
        }

        fn expected(&self, l: usize, r: usize) -> f32 {
            let [left, right] = self.sides();
            let terms = left.terms.iter().zip(right.terms);
            terms
                .map(|(lt, rt)| {
                    left.values[lt + left.columns[l]] * right.values[rt + right.columns[r]]
                })
                .sum()
        }

        /// Added to ones, and to what each row starts from, with the instructions of `run`.
        fn check(
            &self,
            vectors: RegisterShape,
            run: impl Fn(PanelProduct<'_, f32, Accumulators<'_, f32>>),
        ) {
            let [left, right] = self.sides();
            let mut seen = 0;
            for panel in PackedOperand::pack_for(vectors, left).iter() {
                let mut out = vec![1.; right.columns.len() * panel.width];
                run(panel.accumulators(&mut out, None, right));
                let start: Vec<_> = (0..panel.width).map(|l| l as f32).collect();
                let mut started = vec![f32::NAN; out.len()];
                run(panel.accumulators(&mut started, Some(&start), right));
                let rows = out.chunks_exact(panel.width).zip(started.chunks_exact(panel.width));
                for (r, (row, started)) in rows.enumerate() {
                    let sums = row.iter().zip(started.iter().zip(&start));
                    for (l, (sum, (started, start))) in panel.columns.clone().zip(sums) {
                        let expected = self.expected(l, r);
                        assert_eq!(*sum, 1. + expected, "{l}, {r} of {vectors:?}");
                        assert_eq!(*started, start + expected, "{l}, {r} of {vectors:?}");
                        seen += 1;
                    }
                }
            }
            assert_eq!(seen, left.columns.len() * right.columns.len());
        }

        /// Panel by panel, each row given as it is computed.
        fn check_rows(&self) {
            let [left, right] = self.sides();
            let mut seen = 0;
            for_each_panel(left, |panel| {
                let start: Vec<_> = (0..panel.width).map(|l| l as f32).collect();
                let mut rows = Vec::new();
                panel.product_into(&start, right, &mut rows);
                assert_eq!(rows.len(), right.columns.len() * panel.width);
                for (r, row) in rows.chunks_exact(panel.width).enumerate() {
                    for (l, (sum, start)) in panel.columns.clone().zip(row.iter().zip(&start)) {
                        assert_eq!(*sum, start + self.expected(l, r), "{l}, {r}");
                        seen += 1;
                    }
                }
            });
            assert_eq!(seen, left.columns.len() * right.columns.len());
        }
    }

    impl StoreRows<f32> for &mut Vec<f32> {
        #[inline(always)]
        fn row<S: Simd, const V: usize>(&mut self, _: S, sums: [S::f32s; V]) {
            self.extend_from_slice(f32::as_scalars::<S>(&sums));
        }
    }

    /// No terms and no columns; panels of each width, the last not full, columns that no number side by
    /// side divides, and more terms than lie in the cache.
    fn cases() -> Vec<Case> {
        let sizes =
            [(0, 3, 4), (5, 0, 4), (5, 3, 0), (1, 1, 1), (9, 16, 6), (4, 23, 7), (7, 130, 19)];
        let many = Case::new(2 * TERMS + 3, 3, 8);
        let widths = (1..5).map(|vectors| (3, vectors * 16 - 1, 13));
        let sizes = sizes.into_iter().chain(widths);
        sizes.map(|(k, left, right)| Case::new(k, left, right)).chain([many]).collect()
    }

    #[test]
    fn products_are_those_by_hand_with_the_instructions_of_this_machine() {
        let vectors = RegisterShape::of::<f32>();
        cases().iter().for_each(|case| case.check(vectors, |product| arch().dispatch(product)));
    }

    #[test]
    fn products_are_given_row_by_row() {
        cases().iter().for_each(Case::check_rows);
    }

    #[test]
    fn products_are_those_by_hand_without_vectors() {
        let vectors = Scalar.vectorize(Count(PhantomData::<f32>));
        cases().iter().for_each(|case| case.check(vectors, |product| Scalar.vectorize(product)));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn products_are_those_by_hand_with_avx2() {
        let Some(avx2) = pulp::x86::V3::try_new() else { return };
        let vectors = Simd::vectorize(avx2, Count(PhantomData::<f32>));
        cases()
            .iter()
            .for_each(|case| case.check(vectors, |product| Simd::vectorize(avx2, product)));
    }

    #[test]
    #[should_panic(expected = "9 of 8 values")]
    fn a_column_beyond_its_values_is_refused() {
        let case = Case::new(2, 1, 3);
        let [left, right] = case.sides();
        let right = Operand { values: &right.values[..8], ..right };
        let panels = PackedOperand::pack(left);
        let panel = panels.iter().next().map(|panel| (panel.width, panel));
        if let Some((width, panel)) = panel {
            panel.add_product(&mut vec![0.; 3 * width], right);
        }
    }

    #[test]
    #[should_panic(expected = "1 places for")]
    fn too_few_places_are_refused() {
        let case = Case::new(2, 1, 3);
        let [left, right] = case.sides();
        PackedOperand::pack(left).iter().for_each(|panel| panel.add_product(&mut [0.], right));
    }
}
