//! Products whose outputs are written row by row, by several panels at a time.
//!
//! Where a register holds few values, a panel is narrow, and to find the places of a row's outputs takes as long as to
//! compute them. Of a strip of panels they are found once for all. Panels are two vectors wide here.

#![allow(unsafe_code, reason = "outputs are written where no values are yet, by pointers")]

use std::ops::Range;
use std::ptr;

use pulp::{Simd, WithSimd};

use super::{Accumulator, FEW, Operand, RegisterShape, SIDE_BY_SIDE, Tile, lines, widest_panel};
use crate::float::Float;
use crate::simd::arch;
use crate::tuning::tuning;

/// Where the outputs of rows go. Each row is written from its first output on.
pub(crate) trait StripRows<T> {
    /// The next places of a row, where so many lie side by side, and what becomes of its outputs on the way there.
    ///
    /// # Safety
    /// The caller writes to all of them.
    unsafe fn places(&mut self, row: usize, count: usize) -> Option<(*mut T, Scaling<T>)>;

    /// Takes the next outputs of a row whose places lie apart.
    fn append(&mut self, row: usize, outputs: &[T]);
}

/// What becomes of an output: `scale × output + shift`.
#[derive(Clone, Copy)]
pub(crate) struct Scaling<T> {
    pub(crate) scale: T,
    pub(crate) shift: T,
    /// Neither does anything.
    pub(crate) plain: bool,
}

/// Some panels of a packed side, one after the other.
pub(crate) struct Strip<'a, T> {
    values: &'a [T],
    terms: usize,
    vectors: RegisterShape,
    /// Which columns they are.
    pub(crate) columns: Range<usize>,
}

/// The columns of a strip of panels with so many terms; none where outputs are written panel by panel.
pub(crate) fn strip_width<T: Float>(terms: usize) -> Option<usize> {
    let panel = widest_panel::<T>();
    let panels = tuning().strip? / (panel * terms.max(1) * size_of::<T>());
    Some(panels.max(1) * panel)
}

/// Packs a left side strip by strip of `width` columns, each in the place of the one before, for `look` alone.
pub(crate) fn for_each_strip<T: Float>(
    side: Operand<'_, T>,
    width: usize,
    mut look: impl FnMut(Strip<'_, T>),
) {
    let (vectors, terms) = (RegisterShape::of::<T>(), side.terms.len());
    let (mut values, start) =
        lines(width.min(side.columns.len()).next_multiple_of(vectors.lanes) * terms);
    for first in (0..side.columns.len()).step_by(width) {
        let columns = first..side.columns.len().min(first + width);
        let mut room = &mut values[start..];
        for (panel, width) in vectors.panels(columns.len()) {
            let (panel_room, behind) = room.split_at_mut(width * terms);
            side.of(&side.columns[first..][panel]).pack(panel_room, width);
            room = behind;
        }
        look(Strip { values: &values[start..], terms, vectors, columns });
    }
}

impl<T: Float> Strip<'_, T> {
    /// Gives the product with a right side to `to`, a row for each of its columns, each added to `start`.
    pub(crate) fn product_into(
        &self,
        start: &[T],
        right: Operand<'_, T>,
        to: &mut impl StripRows<T>,
    ) {
        let right = right.checked();
        let mut starts = start.to_vec();
        starts.resize(self.columns.len().next_multiple_of(self.vectors.lanes), T::default());
        let scratch = vec![T::default(); SIDE_BY_SIDE * self.columns.len()];
        arch().dispatch(StripProduct { strip: self, starts: &starts, right, to, scratch });
    }
}

struct StripProduct<'a, T, R> {
    strip: &'a Strip<'a, T>,
    /// What each column starts from, as many as whole registers hold.
    starts: &'a [T],
    right: Operand<'a, T>,
    to: &'a mut R,
    /// Room for the outputs of rows whose places lie apart.
    scratch: Vec<T>,
}

impl<T: Float, R: StripRows<T>> WithSimd for StripProduct<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (columns, last) = self.right.columns.as_chunks::<SIDE_BY_SIDE>();
        for (index, columns) in columns.iter().enumerate() {
            self.rows(simd, index * SIDE_BY_SIDE, columns, SIDE_BY_SIDE);
        }
        let first = columns.len() * SIDE_BY_SIDE;
        for (index, last) in last.chunks(FEW).enumerate() {
            let mut columns = [last[0]; FEW];
            columns[..last.len()].copy_from_slice(last);
            self.rows(simd, first + index * FEW, &columns, last.len());
        }
    }
}

/// Where the outputs of one row go.
#[derive(Clone, Copy)]
struct RowPlaces<T> {
    /// The first of as many places as the strip has columns.
    places: *mut T,
    scaling: Scaling<T>,
    /// These are places in between.
    apart: bool,
}

impl<T: Float, R: StripRows<T>> StripProduct<'_, T, R> {
    /// Computes some rows, of which the first `count` are written.
    #[inline(always)]
    fn rows<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        first: usize,
        columns: &[usize; N],
        count: usize,
    ) {
        let width = self.strip.columns.len();
        let between = RowPlaces {
            places: ptr::null_mut(),
            scaling: Scaling::new(T::of(1.), T::of(0.)),
            apart: true,
        };
        let (mut rows, scratch) = ([between; N], self.scratch.as_mut_ptr());
        for (index, row) in rows.iter_mut().enumerate().take(count) {
            // SAFETY: the panels together are as wide, and each writes to its places below. There is room for as
            // many rows in between.
            unsafe {
                match self.to.places(first + index, width) {
                    Some((places, scaling)) => *row = RowPlaces { places, scaling, apart: false },
                    None => row.places = scratch.add(index * width),
                }
            }
        }
        // SAFETY: each has places for the strip's columns.
        unsafe { self.write(simd, columns, &rows, count) };
        for (index, row) in rows.iter().enumerate().take(count) {
            if row.apart {
                self.to.append(first + index, &self.scratch[index * width..][..width]);
            }
        }
    }

    /// Writes the first `count` rows, panel by panel.
    ///
    /// # Safety
    /// Each of them has places for the strip's columns.
    #[inline(always)]
    unsafe fn write<S: Simd, const N: usize>(
        &self,
        simd: S,
        columns: &[usize; N],
        rows: &[RowPlaces<T>; N],
        count: usize,
    ) {
        let (width, lanes) = (self.strip.columns.len(), T::lanes::<S>());
        let plain = rows.iter().all(|row| row.scaling.plain);
        let group = Group { simd, columns, rows, count, plain };
        let (mut start, mut values) = (0, self.strip.values);
        while start < width {
            let outputs = (width - start).min(2 * lanes);
            let vectors = if outputs > lanes { 2 } else { 1 };
            let (panel, behind) = values.split_at(vectors * lanes * self.strip.terms);
            // SAFETY: the caller's word; these outputs begin at `start`.
            unsafe {
                match vectors {
                    1 => self.panel::<S, N, 1>(&group, panel, start, outputs),
                    _ => self.panel::<S, N, 2>(&group, panel, start, outputs),
                }
            }
            (start, values) = (start + outputs, behind);
        }
    }

    /// Writes the outputs of one panel.
    ///
    /// # Safety
    /// Each of the rows that are written has places for so many outputs from `start` on.
    #[inline(always)]
    unsafe fn panel<S: Simd, const N: usize, const V: usize>(
        &self,
        group: &Group<'_, S, T, N>,
        panel: &[T],
        start: usize,
        outputs: usize,
    ) {
        let &Group { simd, columns, rows, count, plain } = group;
        let terms = T::as_registers::<S>(panel).as_chunks::<V>().0;
        let from = &T::as_registers::<S>(&self.starts[start..]).as_chunks::<V>().0[0];
        let sums = Tile { simd, rows: terms, right: self.right }.summed(columns, [*from; N]);
        for (index, (row, sums)) in rows.iter().zip(sums).enumerate() {
            if index < count {
                // SAFETY: the caller's word.
                unsafe {
                    let places = row.places.add(start);
                    let sums = if plain { sums } else { row.scaling.of::<S, V>(simd, sums) };
                    put::<S, T, V>(places, sums, outputs);
                }
            }
        }
    }
}

/// Rows that are computed side by side.
struct Group<'a, S, T, const N: usize> {
    simd: S,
    columns: &'a [usize; N],
    rows: &'a [RowPlaces<T>; N],
    /// How many of them are written.
    count: usize,
    /// No row is scaled or shifted.
    plain: bool,
}

impl<T: Float> Scaling<T> {
    pub(crate) fn new(scale: T, shift: T) -> Self {
        Self { scale, shift, plain: scale == T::of(1.) && shift == T::of(0.) }
    }

    #[inline(always)]
    pub(crate) fn of<S: Simd, const V: usize>(
        self,
        simd: S,
        sums: Accumulator<T, S, V>,
    ) -> Accumulator<T, S, V> {
        let (scale, shift) = (T::splat(simd, self.scale), T::splat(simd, self.shift));
        let mut values = sums;
        // By hand, for `map` would be a call.
        for value in &mut values {
            *value = T::multiply_add(simd, *value, scale, shift);
        }
        values
    }
}

/// Writes the first `outputs` of some registers.
///
/// # Safety
/// There are as many places.
#[inline(always)]
unsafe fn put<S: Simd, T: Float, const V: usize>(
    places: *mut T,
    values: Accumulator<T, S, V>,
    outputs: usize,
) {
    // SAFETY: the caller's word.
    unsafe {
        if outputs == V * T::lanes::<S>() {
            return places.cast::<Accumulator<T, S, V>>().write_unaligned(values);
        }
        let copy = values;
        let values = T::as_scalars::<S>(&copy);
        ptr::copy_nonoverlapping(values.as_ptr(), places, outputs.min(values.len()));
    }
}
