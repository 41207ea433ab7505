//! The shape of one sample, as far as it is known.

use super::size::Size;
use crate::check::Problem;

/// The most dimensions that are kept before the open part, and as many behind it.
const MAX: usize = 8;

/// The shape of one sample: of a tensor without its first dimension, the batch.
///
/// It may be known in part. `[1, _, _]` has three dimensions, the first of size 1; `[…, 64]` ends in
/// one of size 64, and has any number before it. A [named size](Size::Named) is not known, but the same wherever
/// it has that name: `[T, 64]`. Of more than eight dimensions the number is left open,
/// and so are, of more than sixteen, those in the middle: what does not fit is then found at run time.
///
/// ```
/// use hypernn::flow::SampleShape;
///
/// const IMAGE: SampleShape = SampleShape::of(&[Some(1), None, None]);
/// assert_eq!(IMAGE.to_string(), "[1, _, _]");
/// assert_eq!(SampleShape::last(64).to_string(), "[…, 64]");
/// assert!(SampleShape::new(&[1, 28, 28]).is(&[1, 28, 28]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SampleShape {
    /// All dimensions, or those before the open part.
    front: Dims,
    /// Whether a number of unknown dimensions lie between front and back.
    open: bool,
    /// The dimensions behind the open part.
    back: Dims,
}

/// Neighbouring dimensions of a shape, each of known or unknown size.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Dims {
    sizes: [Size; MAX],
    len: usize,
}

impl Dims {
    const NONE: Self = Self { sizes: [Size::Unknown; MAX], len: 0 };

    const fn is_full(&self) -> bool {
        self.len == MAX
    }

    /// One more; where there is no room, the first is given up for it.
    const fn push(mut self, size: Size) -> Self {
        if self.is_full() {
            let mut i = 1;
            while i < MAX {
                self.sizes[i - 1] = self.sizes[i];
                i += 1;
            }
            self.len -= 1;
        }
        self.sizes[self.len] = size;
        self.len += 1;
        self
    }

    /// What is known of dimensions that are both these and those, counted from the front; `None` where two sizes
    /// differ.
    const fn meet(self, other: Self) -> Option<Self> {
        let (mut met, short) = if self.len < other.len { (other, self) } else { (self, other) };
        let mut i = 0;
        while i < short.len {
            match met.sizes[i].meet(short.sizes[i]) {
                Some(size) => met.sizes[i] = size,
                None => return None,
            }
            i += 1;
        }
        Some(met)
    }

    const fn same(&self, other: &Self) -> bool {
        let mut i = 0;
        while i < self.len && i < other.len {
            if !self.sizes[i].same(other.sizes[i]) {
                return false;
            }
            i += 1;
        }
        self.len == other.len
    }

    /// [`meet`](Self::meet), counted from the back.
    const fn meet_from_back(self, other: Self) -> Option<Self> {
        let (mut met, short) = if self.len < other.len { (other, self) } else { (self, other) };
        let skipped = met.len - short.len;
        let mut i = 0;
        while i < short.len {
            match met.sizes[skipped + i].meet(short.sizes[i]) {
                Some(size) => met.sizes[skipped + i] = size,
                None => return None,
            }
            i += 1;
        }
        Some(met)
    }

    const fn has_names(&self) -> bool {
        let mut i = 0;
        while i < self.len {
            if let Size::Named(_) = self.sizes[i] {
                return true;
            }
            i += 1;
        }
        false
    }
}

impl SampleShape {
    /// The most dimensions that are kept before the open part.
    pub(crate) const MAX: usize = MAX;

    /// A shape of which nothing is known.
    pub const ANY: Self = Self { front: Dims::NONE, open: true, back: Dims::NONE };

    /// A shape without dimensions.
    const EMPTY: Self = Self { front: Dims::NONE, open: false, back: Dims::NONE };

    /// A shape all of whose sizes are known.
    pub const fn new(sizes: &[usize]) -> Self {
        let (mut shape, mut i) = (Self::EMPTY, 0);
        while i < sizes.len() {
            shape = shape.then(Size::Known(sizes[i]));
            i += 1;
        }
        shape
    }

    /// A shape of this many dimensions, some of unknown size.
    pub const fn of(sizes: &[Option<usize>]) -> Self {
        Self::EMPTY.extend(sizes)
    }

    /// A shape of dimensions of these sizes, some of which may be names.
    pub const fn sized(sizes: &[Size]) -> Self {
        let (mut shape, mut i) = (Self::EMPTY, 0);
        while i < sizes.len() {
            shape = shape.then(sizes[i]);
            i += 1;
        }
        shape
    }

    /// Channels, then the sizes of an image or a line.
    pub const fn image(channels: Option<usize>, sizes: &[Option<usize>]) -> Self {
        Self::EMPTY.then(Size::of(channels)).extend(sizes)
    }

    /// Channels, then so many sizes that are not known.
    pub(crate) const fn channels(channels: usize, axes: usize) -> Self {
        let mut front = Dims::NONE;
        front.sizes[0] = Size::Known(channels);
        front.len = 1 + axes;
        Self { front, ..Self::EMPTY }
    }

    /// A shape whose first dimension has this size.
    pub(crate) const fn begins_with(size: usize) -> Self {
        Self { open: true, ..Self::channels(size, 0) }
    }

    /// A shape that begins like this.
    pub const fn first(sizes: &[Option<usize>]) -> Self {
        Self { open: true, back: Dims::NONE, ..Self::of(sizes) }
    }

    /// One more dimension behind. Where there is no room in front, the number of dimensions is left open.
    const fn then(self, size: Size) -> Self {
        if self.open || self.front.is_full() {
            return Self { open: true, back: self.back.push(size), ..self };
        }
        Self { front: self.front.push(size), ..self }
    }

    const fn extend(mut self, sizes: &[Option<usize>]) -> Self {
        let mut i = 0;
        while i < sizes.len() {
            self = self.then(Size::of(sizes[i]));
            i += 1;
        }
        self
    }

    /// A shape whose last dimension has this size.
    pub const fn last(size: usize) -> Self {
        Self { front: Dims::NONE, open: true, back: Dims::NONE.push(Size::Known(size)) }
    }

    /// The dimensions of which something is kept, before the open part or behind it, where these are more.
    pub(super) const fn kept_dims(&self) -> usize {
        if self.front.len < self.back.len { self.back.len } else { self.front.len }
    }

    /// Whether a size has a name.
    pub(super) const fn has_names(&self) -> bool {
        self.front.has_names() || self.back.has_names()
    }

    /// The number of dimensions, where it is known.
    pub const fn rank(&self) -> Option<usize> {
        if self.open { None } else { Some(self.front.len) }
    }

    /// The size of dimension `i`, where it is known.
    pub const fn dim(&self, i: usize) -> Option<usize> {
        self.size(i).known()
    }

    /// The size of dimension `i`, which may be a name.
    pub const fn size(&self, i: usize) -> Size {
        if i < self.front.len { self.front.sizes[i] } else { Size::Unknown }
    }

    /// The size of the last dimension, where it is known.
    pub const fn last_dim(&self) -> Option<usize> {
        self.from_last(0).known()
    }

    /// The size of the dimension `i` before the last, which may be a name; 0 is the last itself.
    pub const fn from_last(&self, i: usize) -> Size {
        let dims = if self.open { &self.back } else { &self.front };
        if i < dims.len { dims.sizes[dims.len - 1 - i] } else { Size::Unknown }
    }

    /// The number of values, where all sizes are known and a `usize` can count them.
    pub const fn num_values(&self) -> Option<usize> {
        if self.open {
            return None;
        }
        let (mut product, mut i) = (1, 0);
        while i < self.front.len {
            let Size::Known(size) = self.front.sizes[i] else { return None };
            match usize::checked_mul(product, size) {
                Some(counted) => product = counted,
                None => return None,
            }
            i += 1;
        }
        Some(product)
    }

    /// Whether the shape is known to have these sizes.
    pub const fn is(&self, sizes: &[usize]) -> bool {
        if self.open || self.front.len != sizes.len() {
            return false;
        }
        let mut i = 0;
        while i < sizes.len() {
            match self.front.sizes[i] {
                Size::Known(size) if size == sizes[i] => {}
                _ => return false,
            }
            i += 1;
        }
        true
    }

    /// `==`, in a constant.
    pub const fn same(&self, other: &Self) -> bool {
        self.open == other.open && self.front.same(&other.front) && self.back.same(&other.back)
    }

    /// The one size that is known of both and differs, if it is one: this shape's and the other's.
    pub(crate) const fn difference(&self, other: &Self) -> Option<(usize, usize)> {
        if !self.open && !other.open && self.front.len != other.front.len {
            return None;
        }
        let (mut found, mut i) = (None, 0);
        while i <= self.front.len {
            // Behind the front, the last dimensions of both.
            let sizes = if i < self.front.len {
                (self.dim(i), other.dim(i))
            } else {
                (self.last_dim(), other.last_dim())
            };
            match (sizes, found) {
                ((Some(a), Some(b)), None) if a != b => found = Some((a, b)),
                ((Some(a), Some(b)), Some((c, d))) if a != b && (a != c || b != d) => return None,
                _ => {}
            }
            i += 1;
        }
        found
    }

    /// The problem of a size that is zero.
    pub const fn check(&self) -> Option<Problem> {
        let mut i = 0;
        while i < MAX {
            // Places that are not taken are unknown.
            if let (Size::Known(0), _) | (_, Size::Known(0)) =
                (self.front.sizes[i], self.back.sizes[i])
            {
                let problem = Problem::new("input: the shape ").shape(self);
                return Some(problem.text(" has a dimension of 0, expected at least 1"));
            }
            i += 1;
        }
        None
    }

    /// This shape with a last dimension of this size.
    #[must_use]
    pub const fn with_last(mut self, size: usize) -> Self {
        if self.open {
            // What stands in front may be the last dimension too: it no longer counts.
            let mut back = self.back;
            if back.len == 0 {
                back = back.push(Size::Unknown);
            }
            back.sizes[back.len - 1] = Size::Known(size);
            return Self { front: Dims::NONE, open: true, back };
        }
        if self.front.len > 0 {
            self.front.sizes[self.front.len - 1] = Size::Known(size);
        }
        self
    }

    /// This shape with one more dimension behind its last.
    #[must_use]
    pub const fn push(self, size: usize) -> Self {
        self.then(Size::Known(size))
    }

    /// This shape with another size in dimension `i`, where it has so many.
    #[must_use]
    pub const fn with(mut self, i: usize, size: Size) -> Self {
        if i < self.front.len {
            self.front.sizes[i] = size;
        }
        self
    }

    /// This shape with another size in the dimension `i` before the last of an open shape.
    pub(super) const fn with_from_last(mut self, i: usize, size: Size) -> Self {
        if self.open && i < self.back.len {
            self.back.sizes[self.back.len - 1 - i] = size;
        }
        self
    }

    /// What is known where a shape is both; `None` where it can't be.
    pub const fn meet(&self, other: &Self) -> Option<Self> {
        match (self.open, other.open) {
            (true, true) => self.meet_open(other),
            (true, false) => other.meet_closed(self),
            (false, true) => self.meet_closed(other),
            (false, false) if self.front.len != other.front.len => None,
            (false, false) => match self.front.meet(other.front) {
                Some(front) => Some(Self { front, ..*self }),
                None => None,
            },
        }
    }

    /// The sizes of this shape, and those of another where this one leaves them open.
    pub(super) const fn over(mut self, other: &Self) -> Self {
        if self.open || other.open || self.front.len != other.front.len {
            return self;
        }
        let mut i = 0;
        while i < self.front.len {
            if !self.front.sizes[i].is_said() {
                self.front.sizes[i] = other.front.sizes[i];
            }
            i += 1;
        }
        self
    }

    /// What is known where a shape is both of two open shapes; `None` where it can't be.
    const fn meet_open(&self, other: &Self) -> Option<Self> {
        match (self.front.meet(other.front), self.back.meet_from_back(other.back)) {
            (Some(front), Some(back)) => Some(Self { front, open: true, back }),
            _ => None,
        }
    }

    /// Of a shape of known rank with an open one, whose front and back may overlap in it.
    const fn meet_closed(&self, open: &Self) -> Option<Self> {
        let len = self.front.len;
        if open.front.len > len || open.back.len > len {
            return None;
        }
        let Some(front) = self.front.meet(open.front) else { return None };
        match front.meet_from_back(open.back) {
            Some(front) => Some(Self { front, ..*self }),
            None => None,
        }
    }
}

impl Problem {
    /// Appends a shape.
    #[must_use]
    pub const fn shape(self, shape: &SampleShape) -> Self {
        let mut text = self.text("[").dims(&shape.front);
        if shape.open {
            text = if shape.front.len > 0 { text.text(", …") } else { text.text("…") };
            if shape.back.len > 0 {
                text = text.text(", ");
            }
        }
        text.dims(&shape.back).text("]")
    }

    /// Appends a size: a number, a name, or `_`.
    #[must_use]
    pub const fn size(self, size: Size) -> Self {
        match size {
            Size::Known(size) => self.number(size),
            Size::Named(name) => self.text(name),
            Size::Unknown => self.text("_"),
        }
    }

    const fn dims(mut self, dims: &Dims) -> Self {
        let mut i = 0;
        while i < dims.len {
            if i > 0 {
                self = self.text(", ");
            }
            self = self.size(dims.sizes[i]);
            i += 1;
        }
        self
    }
}

impl std::fmt::Display for SampleShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Problem::new("").shape(self).message())
    }
}

impl std::fmt::Debug for SampleShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: SampleShape = SampleShape::of(&[Some(8), None, None]);
    const CHANNELS: SampleShape = SampleShape::first(&[Some(8), None]);
    const WIDTH: SampleShape = SampleShape::last(8);

    fn met(a: SampleShape, b: SampleShape) -> Option<String> {
        let (there, back) = (a.meet(&b), b.meet(&a));
        assert_eq!(there, back);
        there.map(|shape| shape.to_string())
    }

    #[test]
    fn shapes_are_written_as_far_as_they_are_known() {
        let written = [SampleShape::ANY, IMAGE, CHANNELS, WIDTH, SampleShape::new(&[])];
        let written = written.map(|shape| shape.to_string());
        assert_eq!(written, ["[…]", "[8, _, _]", "[8, _, …]", "[…, 8]", "[]"]);
    }

    #[test]
    fn two_shapes_at_once() {
        assert_eq!(met(IMAGE, SampleShape::ANY).as_deref(), Some("[8, _, _]"));
        assert_eq!(met(IMAGE, CHANNELS).as_deref(), Some("[8, _, _]"));
        assert_eq!(met(IMAGE, WIDTH).as_deref(), Some("[8, _, 8]"));
        assert_eq!(met(CHANNELS, WIDTH).as_deref(), Some("[8, _, …, 8]"));
        assert_eq!(met(SampleShape::new(&[8]), WIDTH).as_deref(), Some("[8]"));
        assert_eq!(met(IMAGE, SampleShape::new(&[8, 4, 5])).as_deref(), Some("[8, 4, 5]"));
    }

    #[test]
    fn shapes_that_contradict_each_other() {
        assert_eq!(met(IMAGE, SampleShape::new(&[8, 4])), None);
        assert_eq!(met(IMAGE, SampleShape::new(&[7, 4, 5])), None);
        assert_eq!(met(CHANNELS, SampleShape::new(&[8])), None);
        assert_eq!(met(WIDTH, SampleShape::last(9)), None);
        assert_eq!(met(WIDTH, SampleShape::new(&[])), None);
    }

    #[test]
    fn the_last_dimension_of_an_open_shape_may_be_its_first() {
        assert_eq!(CHANNELS.with_last(3).to_string(), "[…, 3]");
        assert_eq!(IMAGE.with_last(3).to_string(), "[8, _, 3]");
        assert_eq!(WIDTH.push(2).with_last(3).to_string(), "[…, 8, 3]");
        assert_eq!(SampleShape::ANY.with_last(3).last_dim(), Some(3));
    }

    /// Nothing is said of a shape of many dimensions that is not true of it.
    #[test]
    fn more_than_eight_dimensions_are_left_open() {
        let sizes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        let nine = SampleShape::new(&sizes[..9]);
        assert_eq!(nine.to_string(), "[1, 2, 3, 4, 5, 6, 7, 8, …, 9]");
        assert_eq!((nine.rank(), nine.num_values(), nine.last_dim()), (None, None, Some(9)));
        assert_eq!(SampleShape::new(&sizes[..8]).rank(), Some(8));
        // The last of nine is no eighth.
        assert_eq!(met(nine, SampleShape::last(8)), None);
        assert!(met(nine, SampleShape::last(9)).is_some() && met(nine, nine).is_some());
        assert_eq!(met(nine, SampleShape::new(&sizes[..8])), None);
        assert_eq!(met(nine, SampleShape::new(&sizes)), None);
        // With one more behind, and a last dimension of another size.
        let ten = SampleShape::new(&sizes[..8]).push(9).push(10);
        assert!(ten.same(&SampleShape::new(&sizes)) && !ten.is(&sizes[..8]));
        assert_eq!(ten.with_last(3).last_dim(), Some(3));
        let many = SampleShape::new(&[7; 30]).push(1);
        assert_eq!(many.to_string(), "[7, 7, 7, 7, 7, 7, 7, 7, …, 7, 7, 7, 7, 7, 7, 7, 1]");
        assert!(SampleShape::first(&[Some(1); 9]).rank().is_none());
    }

    #[test]
    fn values_that_no_usize_counts_are_unknown() {
        assert_eq!(SampleShape::new(&[usize::MAX, 2]).num_values(), None);
        assert_eq!(SampleShape::new(&[usize::MAX, 1]).num_values(), Some(usize::MAX));
    }

    #[test]
    fn values_are_counted_where_all_sizes_are_known() {
        assert_eq!(SampleShape::new(&[8, 4, 5]).num_values(), Some(160));
        assert_eq!((IMAGE.num_values(), WIDTH.num_values()), (None, None));
        assert!(!IMAGE.is(&[8, 4, 5]) && !WIDTH.is(&[8]));
    }
}
