//! The condition: what a dynamic hypernetwork's weights depend on.

pub mod own;
mod sequences;
mod value;

use std::f64::consts::{FRAC_PI_2, SQRT_2};

use candle_core::{D, DType, Device, Result, Tensor};

use crate::check::{Problem, ensure_same_device};
use crate::error::bail;
pub use sequences::Sequences;
pub use value::ConditionValue;
pub(crate) use value::Rows;

/// What an embedding or a generator takes as its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// No condition: the part depends on its variables alone.
    None,
    /// A vector of this width: `[G, width]`, or `[width]` for one set.
    Vector(usize),
    /// The number of a task: integers `[G]`, or one integer for one set.
    Task,
    /// Vectors of this width in order, any number of them: `[G, T, width]`, or `[T, width]` for one set, with a mask
    /// or lengths where some are shorter than `T`; see [`Sequences`].
    Sequence(usize),
    /// Vectors of this width whose order does not matter, any number of them, given like a
    /// [sequence](Self::Sequence).
    Set(usize),
}

impl Condition {
    /// What both parts of a hypernetwork take together.
    pub const fn join(self, other: Self) -> Self {
        match self {
            Self::None => other,
            taken => taken,
        }
    }

    /// What is wrong with the conditions of an embedding and a generator, if anything.
    pub const fn check(embedding: Self, generator: Self) -> Option<Problem> {
        match (embedding, generator) {
            (Self::None, Self::None) => Some(Problem::new(
                "neither the embedding nor the generator takes the input: write `mode: static`, \
                 or condition one of them, as in `generator: linear.conditioned(8)`",
            )),
            (Self::None, _) | (_, Self::None) => None,
            _ => Self::check_both(embedding, generator),
        }
    }

    /// What is wrong where both parts take a condition, if anything.
    const fn check_both(embedding: Self, generator: Self) -> Option<Problem> {
        let ((first, one), (second, other)) = (embedding.kind(), generator.kind());
        if first != second {
            let (one, other) = if first < second { (one, other) } else { (other, one) };
            let problem = Problem::new("one part takes a ").text(one);
            return Some(problem.text(", but the other a ").text(other));
        }
        let (first, second) = (embedding.width(), generator.width());
        if first == second {
            return None;
        }
        let problem = Problem::new("the embedding takes a condition of width ").number(first);
        Some(problem.text(", but the generator one of width ").number(second))
    }

    /// A number for each kind of condition, in the order of messages, and its name.
    const fn kind(self) -> (usize, &'static str) {
        match self {
            Self::None => (0, "none"),
            Self::Task => (1, "task"),
            Self::Vector(_) => (2, "vector"),
            Self::Sequence(_) => (3, "sequence"),
            Self::Set(_) => (4, "set"),
        }
    }

    /// The width of its vectors; 0 where it has none.
    const fn width(self) -> usize {
        match self {
            Self::None | Self::Task => 0,
            Self::Vector(width) | Self::Sequence(width) | Self::Set(width) => width,
        }
    }

    /// Whether it is many vectors, [`Sequence`](Self::Sequence) or [`Set`](Self::Set).
    pub const fn is_many(self) -> bool {
        matches!(self, Self::Sequence(_) | Self::Set(_))
    }

    /// The condition as rows, and `G`; `None` where one set is meant.
    ///
    /// # Errors
    /// A wrong width, rank or dtype, or no rows; of sequences also a mask or lengths that do not fit.
    pub(crate) fn rows(
        self,
        given: ConditionValue<'_>,
        dtype: DType,
        device: &Device,
    ) -> Result<(Rows, Option<usize>)> {
        let condition = given.tensor();
        ensure_same_device(
            "the condition",
            condition.device().location(),
            "the hypernetwork",
            device.location(),
        )?;
        let rank = self.rank();
        let rows = match condition.rank().checked_sub(rank) {
            Some(0) => condition.unsqueeze(0)?,
            Some(1) => condition.clone(),
            _ => bail!(
                condition,
                "the condition has shape {:?}, expected {}",
                condition.dims(),
                self.form()
            ),
        };
        self.check_rows(&rows, dtype)?;
        let sets = (condition.rank() > rank).then(|| rows.dim(0)).transpose()?;
        Ok((given.rows(rows, self)?, sets))
    }

    /// The rank of the condition of one set.
    const fn rank(self) -> usize {
        match self {
            Self::None | Self::Task => 0,
            Self::Vector(_) => 1,
            Self::Sequence(_) | Self::Set(_) => 2,
        }
    }

    /// The shape that is expected.
    pub(crate) fn form(self) -> String {
        match self {
            Self::Vector(width) => format!("[G, {width}], or [{width}] for one set"),
            Self::Sequence(width) | Self::Set(width) => {
                format!("[G, T, {width}], or [T, {width}] for one set")
            }
            _ => "integers [G], or one integer for one set".to_owned(),
        }
    }

    fn check_rows(self, rows: &Tensor, dtype: DType) -> Result<()> {
        if rows.dims()[..self.rank().max(1)].contains(&0) {
            bail!(condition, "the condition has no rows, expected {}", self.form());
        }
        match self {
            Self::Task if !rows.dtype().is_int() => {
                bail!(condition, "the condition is {:?}, expected {}", rows.dtype(), self.form())
            }
            Self::Task | Self::None => Ok(()),
            _ if rows.dim(D::Minus1)? != self.width() => {
                bail!(
                    condition,
                    "the condition has width {}, expected {}",
                    rows.dim(D::Minus1)?,
                    self.width()
                )
            }
            _ if rows.dtype() != dtype => {
                bail!(
                    condition,
                    "the condition is {:?}, but the hypernetwork {dtype:?}",
                    rows.dtype()
                )
            }
            _ => Ok(()),
        }
    }
}

/// How a vector condition enters a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Encoding {
    /// As it is. Under the exact init the target starts at candle's scale whatever the condition's; the
    /// gradient of the weights that the condition meets grows with it, as any layer's does with its
    /// input, so that a mean square of about one suits best.
    #[default]
    Raw,
    /// `√2 cos(πx/2)` and `√2 sin(πx/2)` of each value, for values from 0 to 1: twice the width, and
    /// a mean square of one whatever the values (Ortiz et al. 2023, "Magnitude Invariant
    /// Parametrizations Improve Hypernetwork Learning", section 4).
    CosSin,
}

/// `.encoding(raw)`.
#[allow(non_upper_case_globals)]
pub const raw: Encoding = Encoding::Raw;
/// `.encoding(cos_sin)`.
#[allow(non_upper_case_globals)]
pub const cos_sin: Encoding = Encoding::CosSin;

impl Encoding {
    /// How it is written after an embedding or a generator; nothing for the default.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Raw => "",
            Self::CosSin => ".encoding(cos_sin)",
        }
    }

    /// The width of an encoded vector.
    pub const fn width(self, width: usize) -> usize {
        match self {
            Self::Raw => width,
            Self::CosSin => width.saturating_mul(2),
        }
    }

    /// `[G, width]` to `[G, encoded width]`.
    pub(crate) fn encode(self, condition: &Tensor) -> Result<Tensor> {
        match self {
            Self::Raw => Ok(condition.clone()),
            Self::CosSin => {
                let angle = condition.affine(FRAC_PI_2, 0.)?;
                Tensor::cat(&[angle.cos()?, angle.sin()?], D::Minus1)? * SQRT_2
            }
        }
    }
}

/// Runs the program of the page on sequences as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/sequences.md")]
pub struct Page;
