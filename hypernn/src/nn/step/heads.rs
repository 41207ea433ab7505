//! Attention over several heads, as steps.

use candle_core::{Module, Result, Tensor};

use crate::check::Problem;
use crate::flow::{Given, Join, SampleShape, Size};
use crate::info::LayerInfo;
use crate::nn::{AttentionMask, RotaryConfig, RotaryConvention, RotaryScaling, RotaryTables};

/// The width of the positions, cut into heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitHeads {
    heads: usize,
}

/// `[T, heads × D]` to `[heads, T, D]`.
pub const fn split_heads(heads: usize) -> SplitHeads {
    SplitHeads { heads }
}

impl SplitHeads {
    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new("split_heads")
            .size("the number of heads", self.heads)
            .takes(SampleShape::of(&[None; 2]))
    }

    /// The shape of the output of one sample; a problem where the heads don't divide the width.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        let width = match input.dim(1) {
            Some(width) if !width.is_multiple_of(self.heads) => {
                let text = Problem::new("").number(self.heads).text(" heads do not divide ");
                return Given::Problem(text.number(width));
            }
            Some(width) => Some(width / self.heads),
            None => None,
        };
        let sizes = [Size::Known(self.heads), input.size(0), Size::of(width)];
        Given::Shape(SampleShape::sized(&sizes))
    }
}

impl Module for SplitHeads {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (batch, positions, width) = xs.dims3()?;
        if self.heads == 0 || !width.is_multiple_of(self.heads) {
            crate::error::bail!(
                shape,
                "split_heads: {} heads do not divide a width of {width}",
                self.heads
            );
        }
        xs.reshape((batch, positions, self.heads, width / self.heads))?.transpose(1, 2)
    }
}

/// The step `merge_heads`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeHeads;

/// `[heads, T, D]` to `[T, heads × D]`.
#[allow(non_upper_case_globals)]
pub const merge_heads: MergeHeads = MergeHeads;

impl MergeHeads {
    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new("merge_heads").takes(SampleShape::of(&[None; 3]))
    }

    /// The shape of the output of one sample.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        let width = match (input.dim(0), input.dim(2)) {
            (Some(heads), Some(width)) => usize::checked_mul(heads, width),
            _ => None,
        };
        Given::Shape(SampleShape::sized(&[input.size(1), Size::of(width)]))
    }
}

impl Module for MergeHeads {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (batch, heads, positions, width) = xs.dims4()?;
        xs.transpose(1, 2)?.reshape((batch, positions, heads * width))
    }
}

/// The fewest positions that angles are computed for.
const FEWEST_POSITIONS: usize = 64;

/// Rotary position embeddings of queries or keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RotaryStep {
    theta: f64,
    interleaved: bool,
}

/// Turns queries or keys `[heads, T, D]`, whose positions are 0 to T - 1, see [`nn::Rotary`](crate::nn::Rotary). `theta`
/// is the base of the frequencies, 10000 in the paper. `interleaved = true` turns neighbours together.
///
/// The angles are those of [`RotaryTables`] that all steps of one `theta` and one width of heads share: they are computed
/// once, and once more where a sequence is longer.
pub const fn rotary(theta: f64) -> RotaryStep {
    RotaryStep { theta, interleaved: false }
}

impl RotaryStep {
    /// Whether the values `2i` and `2i + 1` are turned together, or `i` of each half.
    #[must_use]
    pub const fn interleaved(mut self, interleaved: bool) -> Self {
        self.interleaved = interleaved;
        self
    }

    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        let problem = Problem::new("rotary: theta is expected to be a finite number above 0");
        let is_base = self.theta > 0. && self.theta < f64::INFINITY;
        LayerInfo::new("rotary")
            .checked(if is_base { None } else { Some(problem) })
            .takes(SampleShape::of(&[None; 3]))
    }

    /// The shape of the output of one sample: that of the input; a problem where its width is odd.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        match input.dim(2) {
            Some(width) if !width.is_multiple_of(2) => {
                let text = Problem::new("pairs of values are turned, but a head has ");
                Given::Problem(text.number(width))
            }
            _ => Given::Shape(*input),
        }
    }
}

impl Module for RotaryStep {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (_, _, positions, head_dim) = xs.dims4()?;
        let (theta, scaling) = (self.theta, RotaryScaling::None);
        let convention = match self.interleaved {
            true => RotaryConvention::Interleaved,
            false => RotaryConvention::Halves,
        };
        let max_positions = FEWEST_POSITIONS;
        let config = RotaryConfig { head_dim, max_positions, theta, scaling, convention };
        let tables = RotaryTables::shared(&config);
        tables.up_to(positions, xs.dtype(), xs.device())?.apply(xs, 0)
    }
}

/// Attention, of queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    causal: bool,
    scale: Option<f64>,
}

/// Scaled dot-product attention, see [`nn::attention`](crate::nn::attention()): of queries `[H, T, D]`, keys `[K, S, D]` and values
/// `[K, S, E]`, `[H, T, E]`. Where there are fewer heads of keys than of queries, each serves `H / K` of them.
///
/// `causal = true` lets a position see itself and those before it; `scale = 0.1` takes the place of `1 / √D`.
pub const fn attention() -> Attention {
    Attention { causal: false, scale: None }
}

impl Attention {
    /// Whether a position sees none behind it.
    #[must_use]
    pub const fn causal(mut self, causal: bool) -> Self {
        self.causal = causal;
        self
    }

    /// What the products of queries and keys are multiplied by.
    #[must_use]
    pub const fn scale(mut self, scale: f64) -> Self {
        self.scale = Some(scale);
        self
    }

    /// What the step says of itself.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new("attention")
    }

    /// The shape that queries, keys and values give; a problem where they don't fit each other.
    pub const fn gives(&self, inputs: &[SampleShape]) -> Given {
        let [q, k, v] = inputs else {
            let text =
                Problem::new("three values are expected, queries, keys and values, but there are ");
            return Given::Problem(text.number(inputs.len()));
        };
        let mut i = 0;
        while i < 3 {
            if !matches!(inputs[i].rank(), None | Some(3)) {
                let text = Problem::new(
                    "[heads, positions, width] is expected, as of `split_heads`, but one is ",
                );
                return Given::Problem(text.shape(&inputs[i]));
            }
            i += 1;
        }
        match self.misfit(q, k, v) {
            Some(misfit) => misfit,
            None => Given::Shape(SampleShape::sized(&[q.size(0), q.size(1), v.size(2)])),
        }
    }

    const fn misfit(&self, q: &SampleShape, k: &SampleShape, v: &SampleShape) -> Option<Given> {
        if q.size(2).meet(k.size(2)).is_none() {
            return Some(differ(1, 0, "queries and keys are expected to have one width"));
        }
        if let (Some(heads), Some(keys)) = (q.dim(0), k.dim(0))
            && !heads.is_multiple_of(keys)
        {
            let text = Problem::new("").number(heads).text(" heads of queries are no multiple of ");
            let problem = text.number(keys).text(" of keys");
            return Some(Given::Misfit { operand: 1, beside: 0, instead: None, problem });
        }
        if v.size(0).meet(k.size(0)).is_none() {
            return Some(differ(2, 1, "keys and values are expected to have the same heads"));
        }
        if v.size(1).meet(k.size(1)).is_none() {
            return Some(differ(2, 1, "keys and values are expected to have the same positions"));
        }
        match (q.dim(1), k.dim(1)) {
            (Some(queries), Some(keys)) if queries <= keys => None,
            _ if self.causal && q.size(1).meet(k.size(1)).is_none() => {
                Some(differ(1, 0, "a causal mask is expected to have as many keys as queries"))
            }
            _ => None,
        }
    }
}

const fn differ(operand: usize, beside: usize, expected: &str) -> Given {
    Given::Misfit { operand, beside, instead: None, problem: Problem::new(expected) }
}

impl Join for Attention {
    fn join(&self, xs: &[&Tensor]) -> Result<Tensor> {
        let &[q, k, v] = xs else {
            crate::error::bail!(
                shape,
                "attention: {} values, expected 3: queries, keys and values",
                xs.len()
            )
        };
        let mask = if self.causal { AttentionMask::causal() } else { AttentionMask::none() };
        let scale = match self.scale {
            Some(scale) => scale,
            None => 1. / (q.dim(candle_core::D::Minus1)? as f64).sqrt(),
        };
        crate::nn::attention(q, k, v, &mask, scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Size = Size::Named("T");
    const S: Size = Size::Named("S");

    fn heads(heads: usize, positions: Size, width: usize) -> SampleShape {
        SampleShape::sized(&[Size::Known(heads), positions, Size::Known(width)])
    }

    fn found(given: Given) -> String {
        match given {
            Given::Shape(shape) => shape.to_string(),
            Given::Problem(problem) => problem.message().to_owned(),
            Given::Misfit { operand, beside, problem, .. } => {
                format!("{operand}, {beside}: {}", problem.message())
            }
        }
    }

    #[test]
    fn heads_are_cut_and_put_together() {
        let wide = SampleShape::sized(&[T, Size::Known(12)]);
        assert_eq!(found(split_heads(3).gives(&wide)), "[3, T, 4]");
        assert_eq!(found(split_heads(5).gives(&wide)), "5 heads do not divide 12");
        assert_eq!(found(merge_heads.gives(&heads(3, T, 4))), "[T, 12]");
        assert_eq!(found(rotary(1e4).gives(&heads(3, T, 4))), "[3, T, 4]");
        let odd = "pairs of values are turned, but a head has 5";
        assert_eq!(found(rotary(1e4).gives(&heads(3, T, 5))), odd);
        assert!(rotary(0.).info().problem.is_some() && rotary(f64::NAN).info().problem.is_some());
    }

    #[test]
    fn queries_keys_and_values_fit_each_other() {
        let (q, k, v) = (heads(8, T, 4), heads(2, S, 4), heads(2, S, 6));
        let step = attention();
        assert_eq!(found(step.gives(&[q, k, v])), "[8, T, 6]");
        assert_eq!(
            found(step.gives(&[q, heads(3, S, 4), v])),
            "1, 0: 8 heads of queries are no multiple of 3 of keys"
        );
        assert_eq!(
            found(step.gives(&[q, heads(2, S, 5), v])),
            "1, 0: queries and keys are expected to have one width"
        );
        let one = heads(1, S, 6);
        assert_eq!(
            found(step.gives(&[q, k, one])),
            "2, 1: keys and values are expected to have the same heads"
        );
        let other = heads(2, T, 6);
        assert_eq!(
            found(step.gives(&[q, k, other])),
            "2, 1: keys and values are expected to have the same positions"
        );
        let causal = step.causal(true);
        assert_eq!(
            found(causal.gives(&[q, k, v])),
            "1, 0: a causal mask is expected to have as many keys as queries"
        );
        assert!(found(step.gives(&[q, k])).starts_with("three values are expected"));
        let flat = SampleShape::new(&[4, 8]);
        assert!(found(step.gives(&[q, flat, v])).ends_with("but one is [4, 8]"));
    }
}
