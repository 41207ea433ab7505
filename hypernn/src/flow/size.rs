//! The size of one dimension.

/// The size of one dimension of a [`SampleShape`](super::SampleShape).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A number.
    Known(usize),
    /// Not known, but the same wherever it has this name: `T` in `input = (T, 64)`. It is no other name's size, and no
    /// number.
    Named(&'static str),
    /// Not known.
    Unknown,
}

impl Size {
    /// A number, where there is one.
    pub const fn of(size: Option<usize>) -> Self {
        match size {
            Some(size) => Self::Known(size),
            None => Self::Unknown,
        }
    }

    /// The number, where it is one.
    pub const fn known(self) -> Option<usize> {
        match self {
            Self::Known(size) => Some(size),
            Self::Named(_) | Self::Unknown => None,
        }
    }

    /// Above, the constant of a letter is taken for unknown.
    #[doc(hidden)]
    pub const MOST_OF_A_LETTER: usize = 1 << 16;

    /// The size of a letter in `input`: a name where it equals any number, else the first number that it equals.
    #[doc(hidden)]
    pub const fn of_letter(name: &'static str, first: usize, any: bool) -> Self {
        match (first, any) {
            (0, true) => Self::Named(name),
            (Self::MOST_OF_A_LETTER.., _) => Self::Unknown,
            (size, _) => Self::Known(size),
        }
    }

    /// Whether it is a number or a name.
    pub(super) const fn is_said(self) -> bool {
        !matches!(self, Self::Unknown)
    }

    /// `==`, in a constant.
    pub const fn same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a == b,
            (Self::Named(a), Self::Named(b)) => same_text(a, b),
            (Self::Unknown, Self::Unknown) => true,
            _ => false,
        }
    }

    /// What is known of a size that is both; `None` where the two differ.
    pub const fn meet(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Unknown, size) | (size, Self::Unknown) => Some(size),
            (a, b) if a.same(b) => Some(a),
            _ => None,
        }
    }
}

/// `==` of two texts, in a constant.
pub(super) const fn same_text(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_own_size_alone() {
        let [t, s] = ["T", "S"].map(Size::Named);
        assert_eq!((t.meet(t), t.meet(Size::Unknown)), (Some(t), Some(t)));
        assert_eq!((t.meet(s), t.meet(Size::Known(3))), (None, None));
        assert_eq!(Size::Known(3).meet(Size::Known(3)), Some(Size::Known(3)));
        assert!(!t.same(s) && !t.same(Size::Unknown) && t.known().is_none());
    }
}
