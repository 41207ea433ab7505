//! Products on the CPU whose right side is read where it lies.
//!
//! `out[r, l] += Σ_k left(k, l) × right(k, r)`: the left side is packed into panels, a few vectors wide,
//! and of the right side each value is spread over a vector. Nothing is copied for it, so a convolution
//! needs no matrix of columns (Dukhan, "The Indirect Convolution Algorithm", arXiv:1907.02129; here
//! offsets serve for pointers).
//!
//! It is compiled for each set of vector instructions that `pulp` knows, and runs by the widest that the
//! machine has.

#![allow(unsafe_code, reason = "a look at each bound takes a tenth of the time")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps};
use std::array;
use std::marker::PhantomData;
use std::ops::Range;

use pulp::bytemuck::cast_slice;
#[cfg(target_arch = "x86_64")]
use pulp::cast;
use pulp::{Arch, Simd, WithSimd};

use super::transpose::{TILE, transpose};

/// Columns that are summed up side by side: with two vectors of a panel, these are as many sums as
/// sixteen registers hold beside what is multiplied, and with four as many as thirty-two do.
const SIDE_BY_SIDE: usize = 6;

/// The same of the last, of which there are fewer.
const FEW: usize = 4;

/// Terms that are summed up for all columns before the next are: of a panel, what lies in the cache.
const TERMS: usize = 1024;

/// Bytes of a line of the cache: a vector that lies in two takes two loads.
const LINE: usize = 64;

/// A number of which a register holds several.
pub(super) trait Lanes: Copy + Default {
    type Register<S: Simd>: Copy;

    fn spread<S: Simd>(simd: S, value: Self) -> Self::Register<S>;

    /// `left × right + sum`, in one operation where the machine has it.
    fn multiply_add<S: Simd>(
        simd: S,
        left: Self::Register<S>,
        right: Self::Register<S>,
        sum: Self::Register<S>,
    ) -> Self::Register<S>;

    /// As many registers as the values fill.
    fn registers<S: Simd>(values: &[Self]) -> &[Self::Register<S>];

    fn registers_mut<S: Simd>(values: &mut [Self]) -> &mut [Self::Register<S>];

    /// The values of registers.
    fn scalars<S: Simd>(registers: &[Self::Register<S>]) -> &[Self];

    /// The columns of four rows.
    fn transposed(rows: [[Self; 4]; 4]) -> [[Self; 4]; 4] {
        array::from_fn(|column| rows.map(|row| row[column]))
    }
}

macro_rules! lanes {
    ($number:ty, $register:ident, $splat:ident, $mul_add:ident, $view:ident, $view_mut:ident$(, $transposed:item)?) => {
        impl Lanes for $number {
            type Register<S: Simd> = S::$register;

            #[inline(always)]
            fn spread<S: Simd>(simd: S, value: Self) -> S::$register {
                simd.$splat(value)
            }

            #[inline(always)]
            fn multiply_add<S: Simd>(
                simd: S,
                left: S::$register,
                right: S::$register,
                sum: S::$register,
            ) -> S::$register {
                simd.$mul_add(left, right, sum)
            }

            #[inline(always)]
            fn registers<S: Simd>(values: &[Self]) -> &[S::$register] {
                S::$view(values).0
            }

            #[inline(always)]
            fn registers_mut<S: Simd>(values: &mut [Self]) -> &mut [S::$register] {
                S::$view_mut(values).0
            }

            #[inline(always)]
            fn scalars<S: Simd>(registers: &[S::$register]) -> &[Self] {
                cast_slice(registers)
            }

            $($transposed)?
        }
    };
}

lanes!(
    f32,
    f32s,
    splat_f32s,
    mul_add_e_f32s,
    as_simd_f32s,
    as_mut_simd_f32s,
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn transposed(rows: [[Self; 4]; 4]) -> [[Self; 4]; 4] {
        let [a, b, c, d] = rows;
        let (a, b, c, d) = (cast(a), cast(b), cast(c), cast(d));
        // SAFETY: every x86-64 has SSE.
        unsafe {
            let (low, high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
            let (lower, higher) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
            [
                cast(_mm_movelh_ps(low, lower)),
                cast(_mm_movehl_ps(lower, low)),
                cast(_mm_movelh_ps(high, higher)),
                cast(_mm_movehl_ps(higher, high)),
            ]
        }
    }
);
lanes!(f64, f64s, splat_f64s, mul_add_e_f64s, as_simd_f64s, as_mut_simd_f64s);

/// A left side, packed.
pub(super) struct Panels<T> {
    values: Vec<T>,
    /// Where they begin: at the start of a line of the cache.
    start: usize,
    terms: usize,
    size: usize,
    vectors: Vectors,
}

/// Some columns of the left side, `[terms, width]`; what lies behind the last, nobody looks at.
pub(super) struct Panel<'a, T> {
    values: &'a [T],
    /// Which they are.
    pub(super) columns: Range<usize>,
    /// How many there are with those behind the last.
    pub(super) width: usize,
}

/// One side of a product: value `k` of a column lies `terms[k]` values behind that of the column.
#[derive(Clone, Copy)]
pub(super) struct Side<'a, T> {
    pub(super) values: &'a [T],
    pub(super) terms: &'a [usize],
    pub(super) columns: &'a [usize],
}

impl<'a, T: Lanes> Side<'a, T> {
    /// The same, after each column was seen to have a value at every term.
    fn checked(self) -> Self {
        let [term, column] = [self.terms, self.columns].map(|list| list.iter().max());
        let end = term.zip(column).map_or(0, |(term, column)| term + column + 1);
        assert!(end <= self.values.len(), "{end} of {} values", self.values.len());
        self
    }

    /// Of some columns.
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
            return transpose(rows, width, (values, self.columns), run.len());
        }
        for (index, row) in rows.chunks_exact_mut(width).enumerate() {
            let row = row.iter_mut().zip(self.columns);
            row.for_each(|(to, column)| *to = values[column + index]);
        }
    }
}

/// The first so many multiples of a step.
pub(super) fn steps(count: usize, step: usize) -> Vec<usize> {
    (0..count).map(|i| i * step).collect()
}

/// What the machine has: numbers in a vector, and the most vectors of a panel.
#[derive(Clone, Copy, Debug)]
struct Vectors {
    lanes: usize,
    most: usize,
}

struct Count<T>(PhantomData<T>);

impl<T: Lanes> WithSimd for Count<T> {
    type Output = Vectors;

    fn with_simd<S: Simd>(self, _: S) -> Vectors {
        let lanes = size_of::<T::Register<S>>() / size_of::<T>();
        Vectors { lanes, most: if S::REGISTER_COUNT < 32 { 2 } else { 4 } }
    }
}

impl Vectors {
    fn of<T: Lanes>() -> Self {
        Arch::new().dispatch(Count(PhantomData::<T>))
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
pub(super) fn widths<T: Lanes>(size: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
    Vectors::of::<T>().panels(size)
}

/// The columns of the widest panel.
pub(super) fn widest<T: Lanes>() -> usize {
    let Vectors { lanes, most } = Vectors::of::<T>();
    lanes * most
}

impl<T: Lanes> Panels<T> {
    pub(super) fn pack(side: Side<'_, T>) -> Self {
        Self::pack_for(Vectors::of::<T>(), side)
    }

    fn pack_for(vectors: Vectors, side: Side<'_, T>) -> Self {
        let (terms, size) = (side.terms.len(), side.columns.len());
        let width = vectors.panels(size).map(|(_, width)| width).sum::<usize>();
        let (mut values, start) = lines(width * terms);
        let mut places = &mut values[start..];
        for (columns, width) in vectors.panels(size) {
            let (panel, behind) = places.split_at_mut(width * terms);
            side.of(&side.columns[columns]).pack(panel, width);
            places = behind;
        }
        Self { values, start, terms, size, vectors }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Panel<'_, T>> {
        let mut values = &self.values[self.start..];
        self.vectors.panels(self.size).map(move |(columns, width)| {
            let (panel, behind) = values.split_at(self.terms * width);
            values = behind;
            Panel { values: panel, columns, width }
        })
    }
}

/// Packs a left side panel by panel, each in the place of the one before, for `look` alone.
pub(super) fn each_panel<T: Lanes>(side: Side<'_, T>, mut look: impl FnMut(Panel<'_, T>)) {
    let (vectors, terms) = (Vectors::of::<T>(), side.terms.len());
    let widest = vectors.panels(side.columns.len()).next().map_or(0, |(_, width)| width);
    let (mut values, start) = lines(widest * terms);
    for (columns, width) in vectors.panels(side.columns.len()) {
        let panel = &mut values[start..][..width * terms];
        side.of(&side.columns[columns.clone()]).pack(panel, width);
        look(Panel { values: panel, columns, width });
    }
}

/// Room for so many values, and the place in it where a line of the cache begins.
fn lines<T: Lanes>(len: usize) -> (Vec<T>, usize) {
    let values = vec![T::default(); len + LINE / size_of::<T>()];
    let start = values.as_ptr().align_offset(LINE);
    (values, start)
}

impl<T: Lanes> Panel<'_, T> {
    /// Writes the product with a right side to `out`, `[columns, width]`, each row added to `start`.
    pub(super) fn product(&self, out: &mut [T], start: &[T], right: Side<'_, T>) {
        Arch::new().dispatch(self.sums(out, Some(start), right));
    }

    /// Gives the product with a right side to `put`, some rows at a time, each added to `start`.
    pub(super) fn put_product(&self, start: &[T], right: Side<'_, T>, put: impl Put<T>) {
        let to = RowByRow { start, put };
        Arch::new().dispatch(Product { panel: self, right, to });
    }

    /// Adds the product to what is in `out`.
    pub(super) fn add_product(&self, out: &mut [T], right: Side<'_, T>) {
        Arch::new().dispatch(self.sums(out, None, right));
    }

    fn sums<'a>(
        &'a self,
        out: &'a mut [T],
        start: Option<&'a [T]>,
        right: Side<'a, T>,
    ) -> Product<'a, T, Sums<'a, T>> {
        let (found, expected) = (out.len(), right.columns.len() * self.width);
        assert!(found == expected, "{found} places for {expected} sums");
        Product { panel: self, right, to: Sums { out, start } }
    }
}

/// A product, and what becomes of it.
struct Product<'a, T, D> {
    panel: &'a Panel<'a, T>,
    right: Side<'a, T>,
    to: D,
}

/// Where a product goes.
trait Destination<T: Lanes> {
    /// Computes it, by a panel that is `V` vectors wide.
    fn take<S: Simd, const V: usize>(self, tiles: Tiles<'_, S, T, V>);
}

impl<T: Lanes, D: Destination<T>> WithSimd for Product<'_, T, D> {
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

impl<T: Lanes, D: Destination<T>> Product<'_, T, D> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let rows = T::registers::<S>(self.panel.values).as_chunks::<V>().0;
        self.to.take(Tiles { simd, rows, right: self.right.checked() });
    }
}

/// As many vectors as a panel is wide.
type Row<T, S, const V: usize> = [<T as Lanes>::Register<S>; V];

/// Takes a product as it is computed.
pub(super) trait Put<T: Lanes> {
    /// The next row.
    fn put<S: Simd, const V: usize>(&mut self, simd: S, sums: [T::Register<S>; V]);
}

/// Row by row.
struct RowByRow<'a, T, P> {
    start: &'a [T],
    put: P,
}

impl<T: Lanes, P: Put<T>> Destination<T> for RowByRow<'_, T, P> {
    #[inline(always)]
    fn take<S: Simd, const V: usize>(self, tiles: Tiles<'_, S, T, V>) {
        let (mut put, simd) = (self.put, tiles.simd);
        let Some(start) = T::registers::<S>(self.start).first_chunk::<V>() else { return };
        let (columns, last) = tiles.right.columns.as_chunks::<SIDE_BY_SIDE>();
        for columns in columns {
            // One by one, for a loop over registers is one over memory.
            let [a, b, c, d, e, f] = tiles.summed(columns, [*start; SIDE_BY_SIDE]);
            put.put::<S, V>(simd, a);
            put.put::<S, V>(simd, b);
            put.put::<S, V>(simd, c);
            put.put::<S, V>(simd, d);
            put.put::<S, V>(simd, e);
            put.put::<S, V>(simd, f);
        }
        let (columns, last) = last.as_chunks::<FEW>();
        for columns in columns {
            let [a, b, c, d] = tiles.summed(columns, [*start; FEW]);
            put.put::<S, V>(simd, a);
            put.put::<S, V>(simd, b);
            put.put::<S, V>(simd, c);
            put.put::<S, V>(simd, d);
        }
        let mut sums = [*start; FEW];
        let sums = &mut sums[..last.len()];
        tiles.add_last(last, sums);
        sums.iter().for_each(|&sums| put.put::<S, V>(simd, sums));
    }
}

/// In places `[columns, width]`.
struct Sums<'a, T> {
    out: &'a mut [T],
    /// What every row starts from, if not from what is in it.
    start: Option<&'a [T]>,
}

impl<T: Lanes> Destination<T> for Sums<'_, T> {
    #[inline(always)]
    fn take<S: Simd, const V: usize>(self, tiles: Tiles<'_, S, T, V>) {
        let Tiles { simd, rows, right } = tiles;
        let places = T::registers_mut::<S>(self.out).as_chunks_mut::<V>().0;
        let mut start = self.start.and_then(|start| T::registers::<S>(start).first_chunk::<V>());
        for (rows, terms) in rows.chunks(TERMS).zip(right.terms.chunks(TERMS)) {
            let right = Side { terms, ..right };
            Tiles { simd, rows, right }.add(places, start.take());
        }
        // Without terms, nothing was added to it.
        if let Some(start) = start {
            places.fill(*start);
        }
    }
}

/// The sums of some columns at a time.
struct Tiles<'a, S: Simd, T: Lanes, const V: usize> {
    simd: S,
    rows: &'a [Row<T, S, V>],
    /// Whose columns have a value at every term.
    right: Side<'a, T>,
}

impl<S: Simd, T: Lanes, const V: usize> Tiles<'_, S, T, V> {
    /// Adds to places, or, where there is a start, to that.
    #[inline(always)]
    fn add(&self, places: &mut [Row<T, S, V>], start: Option<&Row<T, S, V>>) {
        let (tiles, few) = places.as_chunks_mut::<SIDE_BY_SIDE>();
        let (columns, of_few) = self.right.columns.as_chunks::<SIDE_BY_SIDE>();
        for (sums, columns) in tiles.iter_mut().zip(columns) {
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

    /// Of fewer columns still, of which there may be none.
    #[inline(always)]
    fn add_last(&self, columns: &[usize], sums: &mut [Row<T, S, V>]) {
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
        mut sums: [Row<T, S, V>; N],
    ) -> [Row<T, S, V>; N] {
        let Self { simd, rows, right } = *self;
        // By hand, for `map` would be a call, and registers would be in memory across it.
        let mut behind = [right.values; N];
        for (values, &column) in behind.iter_mut().zip(columns) {
            *values = &values[column..];
        }
        for (row, &term) in rows.iter().zip(right.terms) {
            for (sums, values) in sums.iter_mut().zip(behind) {
                // SAFETY: a column has a value at every term.
                let value = T::spread(simd, unsafe { *values.get_unchecked(term) });
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

        fn sides(&self) -> [Side<'_, f32>; 2] {
            let values = [&self.left, &self.right];
            [0, 1].map(|side| Side {
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
        fn check(&self, vectors: Vectors, run: impl Fn(Product<'_, f32, Sums<'_, f32>>)) {
            let [left, right] = self.sides();
            let mut seen = 0;
            for panel in Panels::pack_for(vectors, left).iter() {
                let mut out = vec![1.; right.columns.len() * panel.width];
                run(panel.sums(&mut out, None, right));
                let start: Vec<_> = (0..panel.width).map(|l| l as f32).collect();
                let mut started = vec![f32::NAN; out.len()];
                run(panel.sums(&mut started, Some(&start), right));
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
        fn check_put(&self) {
            let [left, right] = self.sides();
            let mut seen = 0;
            each_panel(left, |panel| {
                let start: Vec<_> = (0..panel.width).map(|l| l as f32).collect();
                let mut rows = Vec::new();
                panel.put_product(&start, right, &mut rows);
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

    impl Put<f32> for &mut Vec<f32> {
        #[inline(always)]
        fn put<S: Simd, const V: usize>(&mut self, _: S, sums: [S::f32s; V]) {
            self.extend_from_slice(f32::scalars::<S>(&sums));
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
        let vectors = Vectors::of::<f32>();
        cases()
            .iter()
            .for_each(|case| case.check(vectors, |product| Arch::new().dispatch(product)));
    }

    #[test]
    fn products_are_given_row_by_row() {
        cases().iter().for_each(Case::check_put);
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
        let right = Side { values: &right.values[..8], ..right };
        let panels = Panels::pack(left);
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
        Panels::pack(left).iter().for_each(|panel| panel.add_product(&mut [0.], right));
    }
}
