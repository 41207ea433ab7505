//! The weight is packed, so that vectors lie along the outputs of a row.

use std::ops::Range;
use std::slice::IterMut;

use pulp::Simd;

use super::{Layer, Offsets};
use crate::ops::linear::Sizes;
use crate::ops::panels::{Put, Side, each_panel, widest};
use crate::ops::pool::{self, Places};
use crate::ops::scalar::Scalar;

/// What becomes of a run of outputs, `[G, rows, out]` in the order in which they lie.
pub(in crate::ops) struct Target<T> {
    pub(in crate::ops) len: usize,
    /// In which vector they are put, behind those before; none, if they are left out.
    pub(in crate::ops) vector: Option<usize>,
    /// They are put there as `scale × output + shift`.
    pub(in crate::ops) scale: T,
    pub(in crate::ops) shift: T,
}

impl<T: Scalar> Target<T> {
    pub(in crate::ops) fn left_out(len: usize) -> Self {
        Self { len, vector: None, scale: T::of(1.), shift: T::of(0.) }
    }
}

impl<T: Scalar> Layer<'_, T> {
    /// Vectors of so many values each, from targets for all outputs; what is behind the last is left out.
    pub(in crate::ops) fn by_outputs(&self, lens: &[usize], targets: &[Target<T>]) -> Vec<Vec<T>> {
        let Sizes { sets, rows, inputs, outputs } = self.sizes;
        let threads = pool::threads_for(sets * rows * inputs * outputs);
        let ranges = pool::column_parts(outputs, widest::<T>(), threads);
        let offsets = Offsets::new(&self.sizes);
        pool::written_all(lens, |places| {
            let cutter = Cutter { places, targets, cut: 0 };
            let parts = cutter.parts(sets * rows, &ranges);
            let full = pool::each(parts, ranges.len() > 1, |part| self.write(part, &offsets));
            full.into_iter().flatten().collect()
        })
    }

    fn write<'a>(&self, mut part: Part<'a, T>, offsets: &Offsets) -> Vec<Places<'a, T>> {
        for (set, rows) in part.rows.chunks_mut(self.sizes.rows.max(1)).enumerate() {
            let outputs = || part.outputs.clone();
            let (xs, weight) = (self.xs(set, offsets), self.weight(set, outputs(), offsets));
            write(rows, &mut part.pieces, (xs, weight, self.bias(set, outputs())));
        }
        let last = part.rows.into_iter().map(|row| row.piece);
        last.chain(part.pieces).map(|piece| piece.places).collect()
    }
}

/// Some outputs of all rows.
struct Part<'a, T> {
    outputs: Range<usize>,
    rows: Vec<Row<'a, T>>,
    /// Row by row, those behind each row's first; once done with, those before its last.
    pieces: Vec<Piece<'a, T>>,
}

struct Row<'a, T> {
    /// That of its next output.
    piece: Piece<'a, T>,
    /// Where the piece behind that is.
    next: usize,
}

/// Outputs of one row that go to one target.
struct Piece<'a, T> {
    places: Places<'a, T>,
    /// How many are still to be left out; then there are no places.
    skip: usize,
    scale: T,
    shift: T,
    /// Neither scale nor shift does anything.
    plain: bool,
}

impl<'a, T: Scalar> Piece<'a, T> {
    fn new(target: &Target<T>, places: Option<Places<'a, T>>, len: usize) -> Self {
        let &Target { scale, shift, .. } = target;
        let skip = if places.is_some() { 0 } else { len };
        let plain = scale == T::of(1.) && shift == T::of(0.);
        Self { places: places.unwrap_or_default(), skip, scale, shift, plain }
    }

    /// Takes as many sums as belong to it, and gives the others.
    fn append<'b>(&mut self, sums: &'b [T]) -> &'b [T] {
        let (now, later) = sums.split_at(sums.len().min(self.places.left().max(self.skip)));
        self.skip -= now.len().min(self.skip);
        let (scale, shift) = (self.scale, self.shift);
        self.places.extend(now.iter().map(|&sum| sum * scale + shift));
        later
    }
}

/// Cuts all outputs at the ends of rows, parts and targets.
struct Cutter<'a, 'b, T> {
    places: Vec<Places<'a, T>>,
    targets: &'b [Target<T>],
    /// How much of the first target is cut.
    cut: usize,
}

impl<'a, T: Scalar> Cutter<'a, '_, T> {
    fn parts(mut self, rows: usize, ranges: &[Range<usize>]) -> Vec<Part<'a, T>> {
        let part = |outputs: &Range<usize>| {
            let pieces = Vec::with_capacity(self.targets.len());
            Part { outputs: outputs.clone(), rows: Vec::with_capacity(rows), pieces }
        };
        let mut parts: Vec<_> = ranges.iter().map(part).collect();
        for _ in 0..rows {
            parts.iter_mut().for_each(|part| self.add_row(part));
        }
        parts
    }

    fn add_row(&mut self, Part { outputs, rows, pieces }: &mut Part<'a, T>) {
        let (mut left, next) = (outputs.len(), pieces.len());
        let piece = self.next(&mut left);
        rows.push(Row { piece, next });
        while left > 0 {
            pieces.push(self.next(&mut left));
        }
    }

    /// The next piece of so many outputs that are left of a row.
    fn next(&mut self, left: &mut usize) -> Piece<'a, T> {
        while let [target, behind @ ..] = self.targets {
            let len = (target.len - self.cut).min(*left);
            (self.cut, *left) = (self.cut + len, *left - len);
            if self.cut == target.len {
                (self.targets, self.cut) = (behind, 0);
            }
            if len > 0 {
                let places = target.vector.map(|index| self.places[index].split_off(len));
                return Piece::new(target, places, len);
            }
        }
        let behind = std::mem::take(left);
        Piece::new(&Target::left_out(behind), None, behind)
    }
}

/// The outputs of one set.
fn write<'a, T: Scalar>(
    rows: &mut [Row<'a, T>],
    pieces: &mut [Piece<'a, T>],
    (xs, weight, bias): (Side<'_, T>, Side<'_, T>, Option<&[T]>),
) {
    let mut start = Vec::with_capacity(widest::<T>());
    each_panel(weight, |panel| {
        start.clear();
        start.extend_from_slice(bias.map_or(&[], |bias| &bias[panel.columns.clone()]));
        start.resize(panel.width, T::default());
        let outputs = panel.columns.len();
        let whole = if outputs == panel.width { outputs } else { usize::MAX };
        panel.put_product(&start, xs, Rows { rows: rows.iter_mut(), pieces, whole, outputs });
    });
}

/// Puts the sums of a panel where they belong.
struct Rows<'a, 'b, T> {
    rows: IterMut<'a, Row<'b, T>>,
    pieces: &'a mut [Piece<'b, T>],
    /// As many sums as are vectors of one piece; no piece has as many where the last vector is not full.
    whole: usize,
    outputs: usize,
}

impl<T: Scalar> Put<T> for Rows<'_, '_, T> {
    #[inline(always)]
    fn put<S: Simd, const V: usize>(&mut self, simd: S, sums: [T::Register<S>; V]) {
        let Some(Row { piece, next }) = self.rows.next() else { return };
        if piece.places.left() < self.whole {
            // A copy of its own, or the sums would be in memory on the other ways as well.
            let copy = sums;
            let sums = &T::scalars::<S>(&copy)[..self.outputs];
            return append(piece, (self.pieces, next), sums);
        }
        if piece.plain {
            return piece.places.extend_from_slice(T::scalars::<S>(&sums));
        }
        let (scale, shift) = (T::spread(simd, piece.scale), T::spread(simd, piece.shift));
        let mut values = sums;
        // By hand, for `map` would be a call.
        for value in &mut values {
            *value = T::multiply_add(simd, *value, scale, shift);
        }
        piece.places.extend_from_slice(T::scalars::<S>(&values));
    }
}

/// Appends sums of a row that may belong to several pieces.
fn append<'a, T: Scalar>(
    piece: &mut Piece<'a, T>,
    (pieces, next): (&mut [Piece<'a, T>], &mut usize),
    sums: &[T],
) {
    let mut sums = piece.append(sums);
    while let Some(behind) = pieces.get_mut(*next)
        && !sums.is_empty()
    {
        std::mem::swap(piece, behind);
        *next += 1;
        sums = piece.append(sums);
    }
}
