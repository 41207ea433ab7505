//! Sets of digits.

/// A set of digits: bit `d` says whether `d` is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digits(u16);

impl Digits {
    /// The digits that a test holds for.
    pub fn which(test: impl Fn(u32) -> bool) -> Self {
        Self((0..10).filter(|&digit| test(digit)).map(|digit| 1 << digit).sum())
    }

    /// All sets.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..1 << 10).map(Self)
    }

    /// Whether a digit is in it.
    pub fn has(self, digit: u32) -> bool {
        self.0 >> digit & 1 == 1
    }

    /// The number of digits in it.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Its digits, in order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..10).filter(move |&digit| self.has(digit))
    }

    /// All others.
    pub fn others(self) -> Self {
        Self::which(|digit| !self.has(digit))
    }

    /// What both have.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl std::fmt::Display for Digits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.iter().try_for_each(|digit| write!(f, "{digit}"))
    }
}
