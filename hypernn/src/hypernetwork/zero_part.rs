//! The part of a tensor that no gradient reaches.

use std::ops::Range;

/// The part of a tensor that gets zero because no gradient reaches it, along the dimension that tells
/// most of it.
///
/// ```
/// use hypernn::hypernetwork::ZeroPart;
///
/// let part = ZeroPart { dim: 0, indices: vec![0..32, 40..41], of: 48 };
/// assert_eq!(part.to_string(), "rows 0..32 and 40 of 48");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ZeroPart {
    /// The dimension of the tensor, without that of the weight sets.
    pub dim: usize,
    /// The runs of indices along it, in ascending order.
    pub indices: Vec<Range<usize>>,
    /// The size of the dimension.
    pub of: usize,
}

impl std::fmt::Display for ZeroPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.dim {
            0 => f.write_str("rows ")?,
            1 => f.write_str("columns ")?,
            _ => f.write_str("indices ")?,
        }
        for (at, run) in self.indices.iter().enumerate() {
            let before = match at {
                0 => "",
                _ if at + 1 == self.indices.len() => " and ",
                _ => ", ",
            };
            match run.len() {
                1 => write!(f, "{before}{}", run.start)?,
                _ => write!(f, "{before}{}..{}", run.start, run.end)?,
            }
        }
        write!(f, " of {}", self.of)?;
        if self.dim > 1 { write!(f, " of dimension {}", self.dim) } else { Ok(()) }
    }
}

impl ZeroPart {
    /// The slices that `marked` fills, along the dimension where they hold most of it; none where it
    /// fills no slice. `marked` has the values of a tensor of shape `dims` in order.
    pub(super) fn of(marked: &[bool], dims: &[usize]) -> Option<Self> {
        let parts = (0..dims.len()).filter_map(|dim| {
            let full = full_slices(marked, dims, dim);
            let indices = runs(&full);
            (!indices.is_empty()).then_some(Self { dim, indices, of: dims[dim] })
        });
        // The first of those that hold as many.
        parts.reduce(|best, part| if part.len(dims) > best.len(dims) { part } else { best })
    }

    /// The number of values, in a tensor of shape `dims`.
    pub(super) fn len(&self, dims: &[usize]) -> usize {
        let slices: usize = self.indices.iter().map(Range::len).sum();
        slices * dims.iter().product::<usize>() / self.of
    }

    /// Whether value number `index` of a tensor of shape `dims` belongs to it.
    pub(super) fn holds(&self, index: usize, dims: &[usize]) -> bool {
        let at = index / stride(dims, self.dim) % self.of;
        self.indices.iter().any(|run| run.contains(&at))
    }

    /// One part of the tensor for each run of indices, with that run alone.
    pub(super) fn each_run(&self) -> impl Iterator<Item = Self> {
        self.indices.iter().map(|run| Self { indices: vec![run.clone()], ..self.clone() })
    }
}

fn stride(dims: &[usize], dim: usize) -> usize {
    dims[dim + 1..].iter().product()
}

/// For each index along a dimension, whether all its values are marked.
fn full_slices(marked: &[bool], dims: &[usize], dim: usize) -> Vec<bool> {
    let (stride, mut full) = (stride(dims, dim), vec![true; dims[dim]]);
    for (run, marked) in marked.chunks(stride).enumerate() {
        full[run % dims[dim]] &= marked.iter().all(|marked| *marked);
    }
    full
}

/// The runs of what is true.
fn runs(flags: &[bool]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, _) in flags.iter().enumerate().filter(|(_, flag)| **flag) {
        match runs.last_mut() {
            Some(run) if run.end == at => run.end += 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks the values of `[3, 4, 2]` whose place along `dim` is one of `indices`.
    fn marked(dim: usize, indices: &[usize]) -> Vec<bool> {
        let dims = [3, 4, 2];
        let place = |at: usize| [at / 8, at / 2 % 4, at % 2][dim];
        (0..dims.iter().product()).map(|at| indices.contains(&place(at))).collect()
    }

    #[test]
    fn slices_are_found_along_every_dimension() {
        let text = |marked: &[bool]| ZeroPart::of(marked, &[3, 4, 2]).map(|part| part.to_string());
        assert_eq!(text(&marked(0, &[0, 1])).as_deref(), Some("rows 0..2 of 3"));
        assert_eq!(text(&marked(1, &[0, 2, 3])).as_deref(), Some("columns 0 and 2..4 of 4"));
        assert_eq!(text(&marked(2, &[1])).as_deref(), Some("indices 1 of 2 of dimension 2"));
        assert_eq!(text(&[false; 24]), None);
        let mut most = marked(0, &[0, 1]);
        most[23] = true;
        let part = ZeroPart::of(&most, &[3, 4, 2]).unwrap_or_else(|| unreachable!());
        assert_eq!((part.to_string().as_str(), part.len(&[3, 4, 2])), ("rows 0..2 of 3", 16));
        let held = (0..24).filter(|at| part.holds(*at, &[3, 4, 2])).count();
        assert_eq!(held, 16);
    }
}
