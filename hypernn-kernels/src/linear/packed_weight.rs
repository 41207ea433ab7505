//! The weight is packed, so that vectors lie along the outputs of a row.

#![allow(unsafe_code, reason = "strips of outputs are written by pointers")]

use std::ops::Range;
use std::slice::IterMut;

use pulp::Simd;

use super::{Linear, Offsets, Sizes};
use crate::error::{Result, ensure_at_least, ensure_len};
use crate::executor::{Executor, for_products, map_parts};
use crate::float::Float;
use crate::microkernel::{
    Operand, Scaling, StoreRows, StripRows, for_each_panel, for_each_strip, strip_width,
    widest_panel,
};
use crate::uninit::{UninitWriter, column_ranges, write_vectors};

/// What becomes of a run of outputs, `[G, rows, out]` in the order in which they lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epilogue<T> {
    /// How many outputs it is for.
    pub len: usize,
    /// Which vector they are appended to; none, if they are left out.
    pub vector: Option<usize>,
    /// The factor of each output, which is appended as `scale × output + shift`.
    pub scale: T,
    /// What is added to each scaled output.
    pub shift: T,
}

impl<T: Float> Epilogue<T> {
    /// An epilogue for `len` outputs that go nowhere.
    pub fn left_out(len: usize) -> Self {
        Self { len, vector: None, scale: T::of(1.), shift: T::of(0.) }
    }
}

/// Every vector has as many values as go to it.
fn check<T>(lens: &[usize], epilogues: &[Epilogue<T>]) -> Result<()> {
    let mut expected = vec![0usize; lens.len()];
    for Epilogue { len, vector, .. } in epilogues {
        let Some(vector) = *vector else { continue };
        ensure_at_least("linear", "the list of vectors", lens.len(), vector + 1)?;
        expected[vector] = expected[vector].saturating_add(*len);
    }
    lens.iter()
        .zip(expected)
        .try_for_each(|(&len, expected)| ensure_len("linear", "the vector", len, expected))
}

impl<T: Float> Linear<'_, T> {
    /// Vectors with so many values each, from epilogues for all outputs in order; what is behind the last is left
    /// out.
    ///
    /// Outputs are written as they are computed: no vector of all is ever there.
    ///
    /// # Errors
    /// What goes to a vector is not as many values as it has; there are fewer outputs; or the executor left out a
    /// part.
    ///
    /// ```
    /// use hypernn_kernels::executor::Sequential;
    /// use hypernn_kernels::linear::{Epilogue, Linear, Sizes};
    ///
    /// let sizes = Sizes { sets: 1, rows: 2, inputs: 1, outputs: 2 };
    /// let layer = Linear::new(sizes, &[1f32, 10.], &[1., 2.], None)?;
    /// // Of the outputs 1, 2, 10 and 20, the second is left out, the first and the third are doubled.
    /// let doubled = Epilogue { len: 1, vector: Some(0), scale: 2., shift: 0. };
    /// let epilogues = [doubled, Epilogue::left_out(1), doubled];
    /// let rest = Epilogue { len: 1, vector: Some(1), scale: 1., shift: 0.5 };
    /// let vectors = layer.outputs_to(&[2, 1], &[&epilogues[..], &[rest]].concat(), &Sequential)?;
    /// assert_eq!(vectors, [vec![2., 20.], vec![20.5]]);
    /// # Ok::<_, hypernn_kernels::Error>(())
    /// ```
    pub fn outputs_to(
        &self,
        lens: &[usize],
        epilogues: &[Epilogue<T>],
        executor: &dyn Executor,
    ) -> Result<Vec<Vec<T>>> {
        check(lens, epilogues)?;
        let Sizes { sets, rows, outputs, .. } = self.sizes;
        let executor = for_products(executor, self.sizes.products());
        let ranges = column_ranges(outputs, widest_panel::<T>(), executor.threads());
        let offsets = Offsets::new(&self.sizes);
        write_vectors(lens, |writers| {
            let cutter = Cutter { writers, epilogues, cut: 0 };
            let parts = cutter.parts(sets * rows, &ranges);
            let full = map_parts(parts, executor, |part| self.write(part, &offsets));
            Ok(full?.into_iter().flatten().collect())
        })
    }

    fn write<'a>(
        &self,
        mut part: OutputBlock<'a, T>,
        offsets: &Offsets,
    ) -> Vec<UninitWriter<'a, T>> {
        for (set, rows) in part.rows.chunks_mut(self.sizes.rows.max(1)).enumerate() {
            let outputs = || part.outputs.clone();
            let (xs, weight) = (self.xs(set, offsets), self.weight(set, outputs(), offsets));
            write(rows, &mut part.pieces, xs, weight, self.bias(set, outputs()));
        }
        let last = part.rows.into_iter().map(|row| row.piece);
        last.chain(part.pieces).map(|piece| piece.writer).collect()
    }
}

/// Some outputs of all rows.
struct OutputBlock<'a, T> {
    outputs: Range<usize>,
    rows: Vec<Row<'a, T>>,
    /// Row by row, those behind each row's first; once done with, those before its last.
    pieces: Vec<Piece<'a, T>>,
}

struct Row<'a, T> {
    /// The piece of the row's next output.
    piece: Piece<'a, T>,
    /// Where the piece behind that is.
    next: usize,
}

/// Outputs of one row that have one epilogue.
struct Piece<'a, T> {
    writer: UninitWriter<'a, T>,
    /// How many are still to be left out; then there are no places.
    skip: usize,
    scaling: Scaling<T>,
}

impl<'a, T: Float> Piece<'a, T> {
    fn new(epilogue: &Epilogue<T>, writer: Option<UninitWriter<'a, T>>, len: usize) -> Self {
        let &Epilogue { scale, shift, .. } = epilogue;
        let skip = if writer.is_some() { 0 } else { len };
        Self { writer: writer.unwrap_or_default(), skip, scaling: Scaling::new(scale, shift) }
    }

    /// Takes as many sums as belong to it, and gives the others.
    fn append<'b>(&mut self, sums: &'b [T]) -> &'b [T] {
        let (now, later) = sums.split_at(sums.len().min(self.writer.remaining().max(self.skip)));
        self.skip -= now.len().min(self.skip);
        let Scaling { scale, shift, .. } = self.scaling;
        self.writer.extend(now.iter().map(|&sum| sum * scale + shift));
        later
    }
}

/// Cuts all outputs at the ends of rows, parts and epilogues.
struct Cutter<'a, 'b, T> {
    writers: Vec<UninitWriter<'a, T>>,
    epilogues: &'b [Epilogue<T>],
    /// How much of the first epilogue is cut.
    cut: usize,
}

impl<'a, T: Float> Cutter<'a, '_, T> {
    fn parts(mut self, rows: usize, ranges: &[Range<usize>]) -> Vec<OutputBlock<'a, T>> {
        let part = |outputs: &Range<usize>| {
            let pieces = Vec::with_capacity(self.epilogues.len());
            OutputBlock { outputs: outputs.clone(), rows: Vec::with_capacity(rows), pieces }
        };
        let mut parts: Vec<_> = ranges.iter().map(part).collect();
        for _ in 0..rows {
            parts.iter_mut().for_each(|part| self.add_row(part));
        }
        parts
    }

    fn add_row(&mut self, OutputBlock { outputs, rows, pieces }: &mut OutputBlock<'a, T>) {
        let (mut left, next) = (outputs.len(), pieces.len());
        let piece = self.next(&mut left);
        rows.push(Row { piece, next });
        while left > 0 {
            pieces.push(self.next(&mut left));
        }
    }

    /// The next piece of so many outputs that are left of a row.
    fn next(&mut self, left: &mut usize) -> Piece<'a, T> {
        while let [epilogue, behind @ ..] = self.epilogues {
            let len = (epilogue.len - self.cut).min(*left);
            (self.cut, *left) = (self.cut + len, *left - len);
            if self.cut == epilogue.len {
                (self.epilogues, self.cut) = (behind, 0);
            }
            if len > 0 {
                let writer = epilogue.vector.map(|index| self.writers[index].split_off(len));
                return Piece::new(epilogue, writer, len);
            }
        }
        let behind = std::mem::take(left);
        Piece::new(&Epilogue::left_out(behind), None, behind)
    }
}

/// The outputs of one set.
fn write<'a, T: Float>(
    rows: &mut [Row<'a, T>],
    pieces: &mut [Piece<'a, T>],
    xs: Operand<'_, T>,
    weight: Operand<'_, T>,
    bias: Option<&[T]>,
) {
    if let Some(width) = strip_width::<T>(weight.terms.len()) {
        return write_strips(width, rows, pieces, xs, weight, bias);
    }
    let mut start = Vec::with_capacity(widest_panel::<T>());
    for_each_panel(weight, |panel| {
        start.clear();
        start.extend_from_slice(bias.map_or(&[], |bias| &bias[panel.columns.clone()]));
        start.resize(panel.width, T::default());
        let outputs = panel.columns.len();
        let whole = if outputs == panel.width { outputs } else { usize::MAX };
        panel.product_into(
            &start,
            xs,
            RowsEpilogue { rows: rows.iter_mut(), pieces, whole, outputs },
        );
    });
}

/// The outputs of one set, by strips of so many.
fn write_strips<'a, T: Float>(
    width: usize,
    rows: &mut [Row<'a, T>],
    pieces: &mut [Piece<'a, T>],
    xs: Operand<'_, T>,
    weight: Operand<'_, T>,
    bias: Option<&[T]>,
) {
    let mut to = StripPieces { rows, pieces };
    for_each_strip(weight, width, |strip| {
        let start = bias.map_or(&[][..], |bias| &bias[strip.columns.clone()]);
        strip.product_into(start, xs, &mut to);
    });
}

/// Appends the outputs of a strip to where they belong.
struct StripPieces<'a, 'b, T> {
    rows: &'a mut [Row<'b, T>],
    pieces: &'a mut [Piece<'b, T>],
}

impl<T: Float> StripRows<T> for StripPieces<'_, '_, T> {
    #[inline(always)]
    unsafe fn places(&mut self, row: usize, count: usize) -> Option<(*mut T, Scaling<T>)> {
        let piece = &mut self.rows[row].piece;
        if piece.writer.remaining() < count {
            return None;
        }
        // SAFETY: the caller's word.
        let places = unsafe { piece.writer.claim(count) };
        Some((places.as_mut_ptr().cast(), piece.scaling))
    }

    fn append(&mut self, row: usize, outputs: &[T]) {
        let Row { piece, next } = &mut self.rows[row];
        append(piece, self.pieces, next, outputs);
    }
}

/// Appends the sums of a panel to where they belong.
struct RowsEpilogue<'a, 'b, T> {
    rows: IterMut<'a, Row<'b, T>>,
    pieces: &'a mut [Piece<'b, T>],
    /// As many sums as are vectors of one piece; no piece has as many where the last vector is not full.
    whole: usize,
    outputs: usize,
}

impl<T: Float> StoreRows<T> for RowsEpilogue<'_, '_, T> {
    #[inline(always)]
    fn row<S: Simd, const V: usize>(&mut self, simd: S, sums: [T::Register<S>; V]) {
        let Some(Row { piece, next }) = self.rows.next() else { return };
        if piece.writer.remaining() < self.whole {
            // A copy of its own, or the sums would be in memory on the other ways as well.
            let copy = sums;
            let sums = &T::as_scalars::<S>(&copy)[..self.outputs];
            return append(piece, self.pieces, next, sums);
        }
        if piece.scaling.plain {
            return piece.writer.extend_from_slice(T::as_scalars::<S>(&sums));
        }
        let values = piece.scaling.of::<S, V>(simd, sums);
        piece.writer.extend_from_slice(T::as_scalars::<S>(&values));
    }
}

/// Appends sums of a row that may belong to several pieces.
fn append<'a, T: Float>(
    piece: &mut Piece<'a, T>,
    pieces: &mut [Piece<'a, T>],
    next: &mut usize,
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
