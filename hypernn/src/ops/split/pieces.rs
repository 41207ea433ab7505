//! Slots cut at the ends of generated rows.

use std::ops::Range;

use super::Slot;

/// The part of a slot that lies in one row.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    start: usize,
    len: usize,
    pub(super) row: usize,
    column: usize,
}

/// A slot, cut at the ends of rows of `chunk` values.
pub(super) fn pieces(slot: &Slot, chunk: usize) -> impl Iterator<Item = Piece> {
    pieces_of(slot.offset..slot.offset + slot.len(), chunk)
}

/// A run of the flat vector, cut at the ends of the rows that it goes through.
pub(super) fn pieces_of(run: Range<usize>, chunk: usize) -> impl Iterator<Item = Piece> {
    let Range { mut start, end } = run;
    std::iter::from_fn(move || {
        let (row, column) = (start / chunk, start % chunk);
        let len = (chunk - column).min(end - start);
        let piece = Piece { start, len, row, column };
        start += len;
        (len > 0).then_some(piece)
    })
}

/// What a range of the values of all sets has of each: the set, and the run of its flat vector.
pub(super) fn by_set(
    slot: &Slot,
    range: Range<usize>,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    let (offset, len) = (slot.offset, slot.len().max(1));
    (range.start / len..range.end.div_ceil(len)).map(move |set| {
        let start = range.start.max(set * len) - set * len;
        let end = range.end.min((set + 1) * len) - set * len;
        (set, offset + start..offset + end)
    })
}

impl Piece {
    /// Where the piece lies in the flat vector of one set.
    pub(super) fn flat(self) -> Range<usize> {
        self.start..self.start + self.len
    }

    /// Where the piece lies in its row.
    pub(super) fn columns(self) -> Range<usize> {
        self.column..self.column + self.len
    }

    pub(super) fn of_slot(self, slot: &Slot) -> Range<usize> {
        let start = self.start - slot.offset;
        start..start + self.len
    }
}
