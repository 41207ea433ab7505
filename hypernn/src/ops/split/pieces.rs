//! Segments cut at the ends of generated rows.

use std::ops::Range;

use super::Segment;

/// The part of a segment that lies in one row.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    start: usize,
    len: usize,
    pub(super) row: usize,
    column: usize,
}

/// A segment, cut at the ends of rows of `chunk` values.
pub(super) fn pieces(segment: &Segment, chunk: usize) -> impl Iterator<Item = Piece> {
    let end = segment.offset + segment.len();
    let mut start = segment.offset;
    std::iter::from_fn(move || {
        let (row, column) = (start / chunk, start % chunk);
        let len = (chunk - column).min(end - start);
        let piece = Piece { start, len, row, column };
        start += len;
        (len > 0).then_some(piece)
    })
}

impl Piece {
    /// In the flat vector.
    pub(super) fn flat(self) -> Range<usize> {
        self.start..self.start + self.len
    }

    /// In its row.
    pub(super) fn columns(self) -> Range<usize> {
        self.column..self.column + self.len
    }

    pub(super) fn of_segment(self, segment: &Segment) -> Range<usize> {
        let start = self.start - segment.offset;
        start..start + self.len
    }
}
