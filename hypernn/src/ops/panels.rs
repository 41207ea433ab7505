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

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

/// Columns that are summed up side by side: with two vectors of a panel, these are as many sums as
/// sixteen registers hold beside what is multiplied, and with four as many as thirty-two do.
const SIDE_BY_SIDE: usize = 6;

/// Terms that are summed up for all columns before the next are: of a panel, what lies in the cache.
const TERMS: usize = 1024;

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
}

macro_rules! lanes {
    ($number:ty, $register:ident, $splat:ident, $mul_add:ident, $view:ident, $view_mut:ident) => {
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
        }
    };
}

lanes!(f32, f32s, splat_f32s, mul_add_e_f32s, as_simd_f32s, as_mut_simd_f32s);
lanes!(f64, f64s, splat_f64s, mul_add_e_f64s, as_simd_f64s, as_mut_simd_f64s);

/// A left side, packed.
pub(super) struct Panels<T> {
    values: Vec<T>,
    terms: usize,
    size: usize,
    vectors: Vectors,
}

/// Some columns of the left side, `[terms, width]`; behind the last are zeros.
pub(super) struct Panel<'a, T> {
    values: &'a [T],
    /// Which they are.
    pub(super) columns: Range<usize>,
    /// How many there are with the zeros behind them.
    pub(super) width: usize,
}

/// One side of a product: value `k` of a column lies `terms[k]` values behind that of the column.
#[derive(Clone, Copy)]
pub(super) struct Side<'a, T> {
    pub(super) values: &'a [T],
    pub(super) terms: &'a [usize],
    pub(super) columns: &'a [usize],
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

impl<T: Lanes> Panels<T> {
    pub(super) fn pack(side: Side<'_, T>) -> Self {
        Self::pack_for(Vectors::of::<T>(), side)
    }

    fn pack_for(vectors: Vectors, side: Side<'_, T>) -> Self {
        let Side { values, terms, columns } = side;
        let width = vectors.panels(columns.len()).map(|(_, width)| width).sum::<usize>();
        let mut packed = Vec::with_capacity(width * terms.len());
        for (range, width) in vectors.panels(columns.len()) {
            let columns = &columns[range];
            for &term in terms {
                let behind = &values[term..];
                packed.extend(columns.iter().map(|&column| behind[column]));
                packed.extend(std::iter::repeat_n(T::default(), width - columns.len()));
            }
        }
        Self { values: packed, terms: terms.len(), size: columns.len(), vectors }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Panel<'_, T>> {
        let mut values = self.values.as_slice();
        self.vectors.panels(self.size).map(move |(columns, width)| {
            let (panel, behind) = values.split_at(self.terms * width);
            values = behind;
            Panel { values: panel, columns, width }
        })
    }
}

impl<T: Lanes> Panel<'_, T> {
    /// Writes the product with a right side to `out`, `[columns, width]`, each row added to `start`.
    pub(super) fn product(&self, out: &mut [T], start: &[T], right: Side<'_, T>) {
        Arch::new().dispatch(self.sums(out, Some(start), right));
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
    ) -> AddProduct<'a, T> {
        let (found, expected) = (out.len(), right.columns.len() * self.width);
        assert!(found == expected, "{found} places for {expected} sums");
        AddProduct { out, start, panel: self, right }
    }
}

struct AddProduct<'a, T> {
    out: &'a mut [T],
    /// What every row starts from, if not from what is in it.
    start: Option<&'a [T]>,
    panel: &'a Panel<'a, T>,
    right: Side<'a, T>,
}

impl<T: Lanes> WithSimd for AddProduct<'_, T> {
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

/// As many vectors as a panel is wide.
type Row<T, S, const V: usize> = [<T as Lanes>::Register<S>; V];

/// A row for each of some columns.
type Sums<T, S, const V: usize> = [Row<T, S, V>; SIDE_BY_SIDE];

impl<T: Lanes> AddProduct<'_, T> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let Self { out, start, panel, right } = self;
        let rows = T::registers::<S>(panel.values).as_chunks::<V>().0;
        let places = T::registers_mut::<S>(out).as_chunks_mut::<V>().0;
        let mut start = start.and_then(|start| T::registers::<S>(start).first_chunk::<V>());
        for (rows, terms) in rows.chunks(TERMS).zip(right.terms.chunks(TERMS)) {
            add::<S, T, V>(simd, places, start.take(), rows, Side { terms, ..right });
        }
        // Without terms, nothing was added to it.
        if let Some(start) = start {
            places.fill(*start);
        }
    }
}

/// Adds the sums over some terms to their places.
#[inline(always)]
fn add<S: Simd, T: Lanes, const V: usize>(
    simd: S,
    places: &mut [Row<T, S, V>],
    start: Option<&Row<T, S, V>>,
    rows: &[Row<T, S, V>],
    right: Side<'_, T>,
) {
    let reach = right.terms.iter().max().map_or(0, |&last| last + 1);
    let (tiles, last_places) = places.as_chunks_mut::<SIDE_BY_SIDE>();
    let (columns, last) = right.columns.as_chunks::<SIDE_BY_SIDE>();
    for (sums, columns) in tiles.iter_mut().zip(columns) {
        let columns = columns.map(|column| &right.values[column..column + reach]);
        // SAFETY: a column reaches behind the last term.
        let from = start.map_or(*sums, |start| [*start; SIDE_BY_SIDE]);
        *sums = unsafe { summed::<S, T, V>(simd, from, rows, right.terms, columns) };
    }
    if let Some(&first) = last.first() {
        let mut columns = [&right.values[first..first + reach]; SIDE_BY_SIDE];
        let mut sums = [[T::spread(simd, T::default()); V]; SIDE_BY_SIDE];
        sums[..last.len()].copy_from_slice(last_places);
        sums = start.map_or(sums, |start| [*start; SIDE_BY_SIDE]);
        for (values, &column) in columns.iter_mut().zip(last) {
            *values = &right.values[column..column + reach];
        }
        // SAFETY: likewise.
        let sums = unsafe { summed::<S, T, V>(simd, sums, rows, right.terms, columns) };
        last_places.copy_from_slice(&sums[..last.len()]);
    }
}

/// The sums with the products of all terms.
///
/// # Safety
/// Every column has a value at every term.
#[inline(always)]
unsafe fn summed<S: Simd, T: Lanes, const V: usize>(
    simd: S,
    mut sums: Sums<T, S, V>,
    rows: &[Row<T, S, V>],
    terms: &[usize],
    columns: [&[T]; SIDE_BY_SIDE],
) -> Sums<T, S, V> {
    for (row, &term) in rows.iter().zip(terms) {
        for (sums, column) in sums.iter_mut().zip(columns) {
            // SAFETY: the caller's word.
            let value = T::spread(simd, unsafe { *column.get_unchecked(term) });
            for (sum, &left) in sums.iter_mut().zip(row) {
                *sum = T::multiply_add(simd, left, value, *sum);
            }
        }
    }
    sums
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
        fn check(&self, vectors: Vectors, run: impl Fn(AddProduct<'_, f32>)) {
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
    #[should_panic(expected = "out of range for slice of length 8")]
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
