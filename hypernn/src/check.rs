//! Checks that run at compile time where sizes are const, and in `new` where they are not, with
//! the same words in both places.

use candle_core::{DType, DeviceLocation};

/// Longest message a check can carry, in bytes; longer text is cut.
const CAPACITY: usize = 512;

/// What is wrong with a declaration: a message with its numbers already written out.
///
/// It is built by `const` functions, so the same check can panic while the compiler evaluates a
/// constant and return an error at run time.
///
/// ```
/// use hypernn::check::Problem;
///
/// const PROBLEM: Problem = Problem::new("linear: in_dim is ").number(0).text(", expected at least 1");
/// assert_eq!(PROBLEM.message(), "linear: in_dim is 0, expected at least 1");
/// ```
#[derive(Clone, Copy)]
pub struct Problem {
    bytes: [u8; CAPACITY],
    len: usize,
}

impl Problem {
    /// Starts a message.
    pub const fn new(text: &str) -> Self {
        Self { bytes: [0; CAPACITY], len: 0 }.text(text)
    }

    /// Appends text, cut at the last whole character where it does not fit.
    #[must_use]
    pub const fn text(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut room = CAPACITY - self.len;
        if bytes.len() <= room {
            room = bytes.len();
        } else {
            while room > 0 && !text.is_char_boundary(room) {
                room -= 1;
            }
        }
        let mut i = 0;
        while i < room {
            self.bytes[self.len] = bytes[i];
            self.len += 1;
            i += 1;
        }
        self
    }

    /// Appends a number in decimal.
    #[must_use]
    pub const fn number(self, value: usize) -> Self {
        let mut digits = [0; 20];
        let mut start = digits.len();
        let mut rest = value;
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let (_, digits) = digits.split_at(start);
        match std::str::from_utf8(digits) {
            Ok(text) => self.text(text),
            Err(_) => self,
        }
    }

    /// The message that was written out.
    pub const fn message(&self) -> &str {
        let (text, _) = self.bytes.split_at(self.len);
        match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(_) => "invalid declaration",
        }
    }

    /// The message as a candle error, for sizes that are only known at run time.
    pub fn into_error(self) -> candle_core::Error {
        crate::error::declaration(self.message())
    }
}

impl std::fmt::Debug for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Problem({:?})", self.message())
    }
}

/// The problem of a size that must be at least one, if it is zero.
#[inline(always)]
pub const fn zero(layer: &str, size: &str, value: usize) -> Option<Problem> {
    if value > 0 {
        return None;
    }
    Some(is_zero(layer, size))
}

#[cold]
const fn is_zero(layer: &str, size: &str) -> Problem {
    Problem::new(layer).text(": ").text(size).text(" is 0, expected at least 1")
}

/// The most values that a tensor can have: as many `f64` fill the largest allocation there is.
pub const MOST_VALUES: usize = isize::MAX as usize / 8;

/// What counts of more than [`MOST_VALUES`] are cut to; sums of several still fit a `usize`.
const TOO_MANY: usize = MOST_VALUES + 1;

/// The number of values of a tensor with these dimensions, cut where it is more than [`MOST_VALUES`].
///
/// Sizes known only at run time then need no other arithmetic than sizes that are constants; a spec's
/// `check` finds what was cut by [`too_many`].
///
/// ```
/// use hypernn::check::{MOST_VALUES, product, sum};
///
/// assert_eq!(product(&[3, 4, 5]), 60);
/// assert_eq!(product(&[usize::MAX, 0]), 0);
/// assert_eq!(sum(&[product(&[usize::MAX, 2]), 7]), MOST_VALUES + 1);
/// ```
// Without calls and indices: each of them takes the compiler as long as several operations.
pub const fn product(sizes: &[usize]) -> usize {
    let (mut product, mut rest) = (1, sizes);
    while let [size, others @ ..] = rest {
        if *size == 0 {
            return 0;
        }
        if product <= MOST_VALUES as u128 {
            product *= *size as u128;
        }
        rest = others;
    }
    if product > MOST_VALUES as u128 { TOO_MANY } else { product as usize }
}

/// The sum of counts, cut where it is more than [`MOST_VALUES`].
pub const fn sum(counts: &[usize]) -> usize {
    let (mut sum, mut rest) = (0, counts);
    while let [count, others @ ..] = rest {
        if *count > MOST_VALUES - sum {
            return TOO_MANY;
        }
        sum += *count;
        rest = others;
    }
    sum
}

/// The problem of a tensor with more values than [`MOST_VALUES`].
///
/// ```
/// use hypernn::check::too_many;
///
/// let problem = too_many("linear", &[1 << 40, 1 << 40]).map(|problem| problem.message().to_owned());
/// let expected = "linear: 1099511627776 × 1099511627776 values are more than any memory holds";
/// assert_eq!(problem.as_deref(), Some(expected));
/// ```
#[inline(always)]
pub const fn too_many(layer: &str, sizes: &[usize]) -> Option<Problem> {
    if product(sizes) <= MOST_VALUES {
        return None;
    }
    Some(more_than_memory(layer, sizes))
}

#[cold]
const fn more_than_memory(layer: &str, sizes: &[usize]) -> Problem {
    let (mut problem, mut i) = (Problem::new(layer).text(": "), 0);
    while i < sizes.len() {
        if i > 0 {
            problem = problem.text(" × ");
        }
        problem = problem.number(sizes[i]);
        i += 1;
    }
    problem.text(" values are more than any memory holds")
}

/// The problem of a part whose tensors can each be counted, but not together: `count` is their sum.
pub(crate) const fn too_many_together(part: &str, count: usize) -> Option<Problem> {
    if count <= MOST_VALUES {
        return None;
    }
    Some(Problem::new(part).text(": its tensors together have more values than any memory holds"))
}

/// The first problem of several, so that a check reads as a list.
pub const fn first(problems: &[Option<Problem>]) -> Option<Problem> {
    let mut i = 0;
    while i < problems.len() {
        if problems[i].is_some() {
            return problems[i];
        }
        i += 1;
    }
    None
}

/// Keeps a problem where there is none yet.
#[inline(always)]
pub(crate) const fn keep_first(kept: &mut Option<Problem>, problem: Option<Problem>) {
    // Whether there is one is asked first, since a problem has room for a whole message, which would be copied.
    if let (None, Some(_)) = (&kept, &problem) {
        *kept = problem;
    }
}

/// Returns the problem as an error, for use at run time.
///
/// # Errors
/// The problem, if there is one.
pub fn ensure(problem: Option<Problem>) -> candle_core::Result<()> {
    problem.map_or(Ok(()), |problem| Err(problem.into_error()))
}

/// Whether two things are on one device; candle's own error would not name them.
///
/// # Errors
/// They are not.
pub(crate) fn ensure_same_device(
    thing: &str,
    found: DeviceLocation,
    other: &str,
    expected: DeviceLocation,
) -> candle_core::Result<()> {
    if found == expected {
        return Ok(());
    }
    crate::error::bail!(device, "{thing} is on {}, but {other} on {}", name(found), name(expected))
}

/// Whether two things have one dtype, as an operation of both needs.
///
/// # Errors
/// They have not.
pub(crate) fn ensure_same_dtype(
    layer: &str,
    thing: &str,
    found: DType,
    other: &str,
    expected: DType,
) -> candle_core::Result<()> {
    if found == expected {
        return Ok(());
    }
    crate::error::bail!(dtype, "{layer}: {thing} is {found:?}, but {other} {expected:?}")
}

/// Whether something of a layer has a dtype that gradients can have.
///
/// # Errors
/// It has not.
pub(crate) fn ensure_float(layer: &str, thing: &str, found: DType) -> candle_core::Result<()> {
    if matches!(found, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
        return Ok(());
    }
    crate::error::bail!(dtype, "{layer}: {thing} is {found:?}, expected f16, bf16, f32 or f64")
}

/// Whether parameters can have this dtype, of a builder of variables.
///
/// # Errors
/// They can't.
pub(crate) fn ensure_floating(
    dtype: DType,
    what: impl FnOnce() -> String,
) -> candle_core::Result<()> {
    if matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
        return Ok(());
    }
    let what = what();
    crate::error::bail!(
        dtype,
        "{what}: the builder's dtype is {dtype:?}, expected f16, bf16, f32 or f64"
    )
}

fn name(device: DeviceLocation) -> String {
    match device {
        DeviceLocation::Cpu => "cpu".to_owned(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named() {
        let (cpu, cuda) = (DeviceLocation::Cpu, DeviceLocation::Cuda { gpu_id: 1 });
        assert!(ensure_same_device("the input", cuda, "the weights", cuda).is_ok());
        let message = ensure_same_device("the input", cuda, "the weights", cpu);
        let message = message.map_err(|err| err.to_string()).err().unwrap_or_default();
        // A backtrace may follow.
        assert_eq!(message.lines().next(), Some("the input is on cuda:1, but the weights on cpu"));
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        let problem = Problem::new("a ").number(0).text(" b ").number(usize::MAX);
        assert_eq!(problem.message(), format!("a 0 b {}", usize::MAX));
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let long = "é".repeat(CAPACITY);
        let problem = Problem::new("x").text(&long);
        assert_eq!(problem.message(), format!("x{}", "é".repeat((CAPACITY - 1) / 2)));
    }

    #[test]
    fn the_first_problem_wins() {
        let found = first(&[zero("l", "a", 1), zero("l", "b", 0), zero("l", "c", 0)]);
        assert_eq!(
            found.map(|p| p.message().to_owned()).as_deref(),
            Some("l: b is 0, expected at least 1")
        );
    }
}
