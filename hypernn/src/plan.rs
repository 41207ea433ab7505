//! The chunk plan: how rows of generated values cover the target's flat vector.

use crate::check::Problem;

/// How `rows` rows of `chunk` generated values cover `num_params` parameters, row-major.
///
/// ```
/// use hypernn::ChunkPlan;
///
/// const PLAN: ChunkPlan = ChunkPlan::new(4192, 32);
/// assert_eq!((PLAN.chunk(), PLAN.surplus()), (131, 0));
/// assert!(PLAN.check().is_none());
/// // Seven rows over nine parameters: chunks of two, of which five rows are enough.
/// let message = ChunkPlan::new(9, 7).check().map(|problem| problem.message().to_owned());
/// assert_eq!(
///     message.as_deref(),
///     Some("7 embeddings for 9 parameters: chunks of 2 fill 5 rows; rows that feed nothing: 2; \
///           nearest counts that waste none: 5 and 9")
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ChunkPlan {
    num_params: usize,
    rows: usize,
    chunk: usize,
}

impl ChunkPlan {
    /// The plan of one row per embedding, of the smallest width that covers all parameters.
    pub const fn new(num_params: usize, num_embeddings: usize) -> Self {
        let rows = if num_embeddings == 0 { 1 } else { num_embeddings };
        Self { num_params, rows: num_embeddings, chunk: num_params.div_ceil(rows) }
    }

    /// The plan of one row that holds exactly the parameters: no chunking.
    pub const fn whole(num_params: usize) -> Self {
        Self { num_params, rows: 1, chunk: num_params }
    }

    /// The number of the target's parameters.
    pub const fn num_params(&self) -> usize {
        self.num_params
    }

    /// The number of generated rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// The number of values in a row.
    pub const fn chunk(&self) -> usize {
        self.chunk
    }

    /// The number of generated values, those that feed no parameter included.
    pub const fn num_values(&self) -> usize {
        self.rows.saturating_mul(self.chunk)
    }

    /// The number of generated values that feed no parameter, all at the end of the last row; 0 in a
    /// plan without rows.
    pub const fn surplus(&self) -> usize {
        self.num_values().saturating_sub(self.num_params)
    }

    /// Which rows feed the `len` parameters from `offset` on; none in a plan without rows or parameters.
    pub const fn rows_of(&self, offset: usize, len: usize) -> std::ops::Range<usize> {
        if self.rows == 0 || self.chunk == 0 {
            return 0..0;
        }
        offset / self.chunk..offset.saturating_add(len).div_ceil(self.chunk)
    }

    /// What is wrong with the plan: no parameters, no embeddings, rows that feed nothing, or more values
    /// than memory has room for.
    pub const fn check(&self) -> Option<Problem> {
        if self.num_params == 0 {
            return Some(Problem::new(
                "the target has no parameters, so there is nothing to generate",
            ));
        }
        if self.rows == 0 {
            return Some(Problem::new("0 embeddings, expected at least 1"));
        }
        if self.rows.checked_mul(self.chunk).is_none() {
            let problem = Problem::new("").number(self.rows).text(" embeddings for chunks of ");
            return Some(problem.number(self.chunk).text(" are more values than a `usize` counts"));
        }
        let used = self.num_params.div_ceil(self.chunk);
        if used == self.rows { None } else { Some(self.wasted(used)) }
    }

    const fn wasted(&self, used: usize) -> Problem {
        let problem = Problem::new("")
            .number(self.rows)
            .text(" embeddings for ")
            .number(self.num_params)
            .text(" parameters: chunks of ")
            .number(self.chunk)
            .text(" fill ")
            .number(used)
            .text(" rows; rows that feed nothing: ")
            .number(self.rows - used)
            .text("; nearest counts that waste none: ")
            .number(used);
        if self.chunk == 1 {
            return problem;
        }
        problem.text(" and ").number(self.num_params.div_ceil(self.chunk - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every count up to the number of parameters: the plan covers all of them, and the message's
    /// neighbours are the nearest counts that a plan accepts.
    #[test]
    fn plans_cover_and_name_the_nearest_counts() {
        for num_params in 1..60 {
            let accepted = |rows: &usize| ChunkPlan::new(num_params, *rows).check().is_none();
            for rows in 1..=num_params + 3 {
                let plan = ChunkPlan::new(num_params, rows);
                assert!(plan.rows() * plan.chunk() >= num_params);
                let Some(problem) = plan.check() else {
                    assert!(plan.surplus() < plan.chunk());
                    continue;
                };
                let below = (1..rows).rev().find(accepted);
                let above = (rows + 1..=num_params).find(accepted);
                let expected = match above {
                    Some(above) => format!("waste none: {} and {above}", below.unwrap_or(0)),
                    None => format!("waste none: {}", below.unwrap_or(0)),
                };
                assert!(
                    problem.message().ends_with(&expected),
                    "{} / {expected}",
                    problem.message()
                );
            }
        }
    }

    #[test]
    fn plans_without_rows_or_parameters_have_numbers_too() {
        for plan in [ChunkPlan::new(10, 0), ChunkPlan::new(0, 3), ChunkPlan::whole(0)] {
            assert_eq!((plan.surplus(), plan.rows_of(0, 5), plan.num_values()), (0, 0..0, 0));
            assert!(plan.check().is_some());
        }
        let plan = ChunkPlan::new(usize::MAX, 2);
        assert_eq!(plan.rows_of(usize::MAX - 1, usize::MAX), 1..2);
        let message = plan.check().map(|problem| problem.message().to_owned());
        let chunk = usize::MAX.div_ceil(2);
        let expected =
            format!("2 embeddings for chunks of {chunk} are more values than a `usize` counts");
        assert_eq!(message, Some(expected));
    }

    #[test]
    fn rows_of_a_tensor() {
        let plan = ChunkPlan::new(10, 3);
        assert_eq!((plan.chunk(), plan.surplus()), (4, 2));
        assert_eq!(plan.rows_of(0, 4), 0..1);
        assert_eq!(plan.rows_of(3, 2), 0..2);
        assert_eq!(plan.rows_of(8, 2), 2..3);
    }
}
