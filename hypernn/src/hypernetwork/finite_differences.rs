//! Whether gradients agree with finite differences of the loss.
//!
//! Along a random direction, the derivative that a gradient gives is compared with the central difference
//! `(loss(x + h d) - loss(x - h d)) / 2h`, for several steps `h`: large ones lose in curvature, small ones
//! in rounding, and at a step where a unit switches on or off the difference is of neither side. One that
//! agrees is enough. Where none does, the same is tried beside `x`, since at `x` itself a function may have no
//! derivative: a gradient is wrong where it disagrees at two places.

use candle_core::{DType, Result, bail};
use rand::SeedableRng;
use rand::distr::Distribution;
use rand::rngs::StdRng;
use rand_distr::StandardNormal;

use super::loss_function::LossFunction;
use super::zero_part::ZeroPart;

/// A list of values whose gradient is looked at.
pub(super) struct Leaf {
    pub(super) name: String,
    /// The shape of one weight set.
    pub(super) dims: Vec<usize>,
}

/// What the gradient of a tensor is beside differences of the loss.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Derivative {
    /// They agree.
    Right,
    /// Both are zero here, and agree beside: what it is multiplied with is zero here, as at the start of a
    /// low-rank adapter.
    ZeroHere,
    /// Both are zero, here and beside: the loss does not depend on it.
    Unused,
    /// They differ, along a direction in the tensor or in a part of it.
    Wrong {
        /// What the gradient gives.
        found: f64,
        /// What the loss changes by, per unit of the direction.
        expected: f64,
        /// The part, where the gradient is zero in one and right in others.
        part: Option<ZeroPart>,
    },
    /// The gradient has values that are NaN or infinite.
    NotFinite,
    /// The loss is too coarse or too uneven to tell.
    Unclear,
}

impl Derivative {
    /// Whether the gradient is as it should be: right, or zero where the loss does not change.
    pub fn is_right(&self) -> bool {
        matches!(self, Self::Right | Self::ZeroHere | Self::Unused)
    }
}

impl std::fmt::Display for Derivative {
    /// `gets the right gradient`, say: what a sentence about the tensor goes on with.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Right => f.write_str("gets the right gradient"),
            Self::ZeroHere => {
                f.write_str("gets zero here, as it should, and the right gradient beside")
            }
            Self::Unused => f.write_str("gets zero, as it should: the loss does not depend on it"),
            Self::Wrong { found, expected, part } => {
                f.write_str("gets a wrong gradient")?;
                if let Some(part) = part {
                    write!(f, " in {part}")?;
                }
                write!(f, ": along a direction {found:.3e}, but the loss changes by {expected:.3e}")
            }
            Self::NotFinite => f.write_str("gets a gradient that is not finite"),
            Self::Unclear => f.write_str("can't be told: the loss is too coarse or too uneven"),
        }
    }
}

/// Steps and tolerance for lists of one dtype.
struct Precision {
    /// Relative to the lists' values, the most telling first.
    steps: &'static [f64],
    tolerance: f64,
    /// The distance of a value of one to the next.
    unit: f64,
}

impl Precision {
    fn of(dtype: DType) -> Self {
        match dtype {
            DType::F64 => Self { steps: &[1e-4, 1e-6, 1e-3], tolerance: 1e-4, unit: 2.3e-16 },
            DType::F32 => Self { steps: &[1e-2, 1e-3, 3e-2, 1e-4], tolerance: 0.02, unit: 1.2e-7 },
            _ => Self { steps: &[0.1, 0.03], tolerance: 0.1, unit: 8e-3 },
        }
    }
}

/// A place where gradients are looked at.
struct Point {
    at: Vec<Vec<f64>>,
    grads: Vec<Option<Vec<f64>>>,
    /// How far the loss is off by rounding.
    noise: f64,
}

/// What a direction, or all directions of a list, tell.
#[derive(Clone, Debug)]
enum Evidence {
    Right,
    Still,
    Unclear,
    NotFinite,
    Off { found: f64, expected: f64, part: Option<ZeroPart> },
}

/// The start and how many places beside it.
const POINTS: usize = 3;

/// How far beside, relative to the lists' values.
const BESIDE: f64 = 0.05;

/// Runs of a part that are looked at one by one.
const MOST_RUNS: usize = 8;

/// What the gradient of each leaf is, at `start` and beside it.
///
/// # Errors
/// The loss function's own, a loss that is not finite, or one that is not the same twice.
pub(super) fn examine(
    function: &mut dyn LossFunction,
    leaves: &[Leaf],
    start: Vec<Vec<f64>>,
) -> Result<Vec<(String, Derivative)>> {
    let precision = Precision::of(function.dtype());
    check_loss(function, &start)?;
    let scales = scales(&start);
    let rng = StdRng::seed_from_u64(17);
    let mut examination =
        Examination { function, precision, scales, rng, points: Vec::new(), start };
    let verdict = |(index, leaf): (usize, &Leaf)| {
        Ok((leaf.name.clone(), examination.verdict(index, &leaf.dims)?))
    };
    leaves.iter().enumerate().map(verdict).collect()
}

fn check_loss(function: &mut dyn LossFunction, start: &[Vec<f64>]) -> Result<()> {
    let (first, second) = (function.loss(start)?, function.loss(start)?);
    if !first.is_finite() {
        bail!("the loss is {first}, so no differences can be taken");
    }
    if first.to_bits() != second.to_bits() {
        bail!(
            "the loss is {first} and then {second} for the same parameters: an exact audit needs one without random numbers, as those of dropout, and without a state of its own"
        );
    }
    Ok(())
}

/// The root mean square of each list; of one that is zero, the mean of the others'.
fn scales(start: &[Vec<f64>]) -> Vec<f64> {
    let rms = |values: &Vec<f64>| {
        (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt()
    };
    let found: Vec<_> = start.iter().map(rms).collect();
    let others: Vec<_> = found.iter().copied().filter(|scale| *scale > 0.).collect();
    let mean = match others.len() {
        0 => 0.1,
        count => others.iter().sum::<f64>() / count as f64,
    };
    found.into_iter().map(|scale| if scale > 0. { scale } else { mean }).collect()
}

struct Examination<'a> {
    function: &'a mut dyn LossFunction,
    precision: Precision,
    scales: Vec<f64>,
    rng: StdRng,
    points: Vec<Point>,
    start: Vec<Vec<f64>>,
}

impl Examination<'_> {
    fn verdict(&mut self, leaf: usize, dims: &[usize]) -> Result<Derivative> {
        let (mut off, mut was_still, mut unclear) = (Vec::new(), false, false);
        for number in 0..POINTS {
            self.ensure_point(number)?;
            match self.tell(leaf, dims, number)? {
                Evidence::Right if was_still => return Ok(Derivative::ZeroHere),
                Evidence::Right => return Ok(Derivative::Right),
                Evidence::NotFinite => return Ok(Derivative::NotFinite),
                Evidence::Still => was_still |= number == 0,
                Evidence::Unclear => unclear = true,
                Evidence::Off { found, expected, part } => {
                    off.push(Derivative::Wrong { found, expected, part });
                }
            }
        }
        Ok(match (off.len(), unclear) {
            (2.., _) => off.swap_remove(0),
            (0, false) => Derivative::Unused,
            _ => Derivative::Unclear,
        })
    }

    fn ensure_point(&mut self, number: usize) -> Result<()> {
        if self.points.len() > number {
            return Ok(());
        }
        let at = if number == 0 { self.start.clone() } else { self.moved(BESIDE)? };
        let noise = self.noise(&at)?;
        let grads = self.function.gradients(&at)?;
        self.points.push(Point { at, grads, noise });
        Ok(())
    }

    /// A point at random beside the start.
    fn moved(&mut self, by: f64) -> Result<Vec<Vec<f64>>> {
        let mut moved = Vec::with_capacity(self.start.len());
        for index in 0..self.start.len() {
            let direction = self.direction(index, None);
            let values = self.start[index].iter().zip(direction).map(|(x, d)| x + by * d);
            moved.push(self.function.rounded(values.collect())?);
        }
        Ok(moved)
    }

    /// Normal values of the list's scale, and zero where `mask` is false.
    fn direction(&mut self, leaf: usize, mask: Option<&[bool]>) -> Vec<f64> {
        let scale = self.scales[leaf];
        let mut draw = |at| {
            let normal: f64 = StandardNormal.sample(&mut self.rng);
            if mask.is_none_or(|mask| mask[at]) { scale * normal } else { 0. }
        };
        (0..self.start[leaf].len()).map(&mut draw).collect()
    }

    /// How far from a line the loss is over a distance in which only rounding bends it.
    fn noise(&mut self, at: &[Vec<f64>]) -> Result<f64> {
        let middle = self.function.loss(at)?;
        let mut worst = middle.abs() * f64::EPSILON;
        for _ in 0..4 {
            let mut ends = [0.; 2];
            let step = 4. * self.precision.unit;
            let directions: Vec<_> = (0..at.len()).map(|leaf| self.direction(leaf, None)).collect();
            for (end, sign) in ends.iter_mut().zip([step, -step]) {
                let moved = at.iter().zip(&directions).map(|(x, d)| {
                    self.function.rounded(x.iter().zip(d).map(|(x, d)| x + sign * d).collect())
                });
                let moved = moved.collect::<Result<Vec<_>>>()?;
                *end = self.function.loss(&moved)?;
            }
            let bend = (ends[0] + ends[1] - 2. * middle).abs() / 2.;
            worst = if bend.is_finite() { worst.max(bend) } else { worst };
        }
        Ok(worst)
    }

    /// Along two directions where the gradient is not zero, and along one in each part where it is.
    fn tell(&mut self, leaf: usize, dims: &[usize], number: usize) -> Result<Evidence> {
        let len = self.start[leaf].len();
        let grads = self.points[number].grads[leaf].clone().unwrap_or_else(|| vec![0.; len]);
        if grads.iter().any(|grad| !grad.is_finite()) {
            return Ok(Evidence::NotFinite);
        }
        let (mut told, mut off) = (Evidence::Still, None);
        for (part, mask) in masks(&grads, dims) {
            match self.along(leaf, number, &grads, &mask)? {
                // A part that is cut off says more than the whole that has it.
                Evidence::Off { found, expected, .. } if off.is_none() || part.is_some() => {
                    off = Some(Evidence::Off { found, expected, part });
                }
                Evidence::Unclear => told = Evidence::Unclear,
                Evidence::Right if matches!(told, Evidence::Still) => told = Evidence::Right,
                _ => {}
            }
        }
        Ok(off.unwrap_or(told))
    }

    /// What the derivative along one random direction tells.
    fn along(
        &mut self,
        leaf: usize,
        number: usize,
        grads: &[f64],
        mask: &[bool],
    ) -> Result<Evidence> {
        let direction = self.direction(leaf, Some(mask));
        let masked = grads.iter().zip(mask).filter(|(_, mask)| **mask);
        let norm = self.scales[leaf] * masked.map(|(grad, _)| grad * grad).sum::<f64>().sqrt();
        let mut steps = Vec::with_capacity(self.precision.steps.len());
        for step in self.precision.steps {
            let Some(step) = self.step(leaf, number, grads, &direction, *step, norm)? else {
                continue;
            };
            if step.is_right(self.precision.tolerance) {
                return Ok(Evidence::Right);
            }
            steps.push(step);
        }
        Ok(told(&steps))
    }

    /// The central difference; none where the loss is not finite.
    fn step(
        &mut self,
        leaf: usize,
        number: usize,
        grads: &[f64],
        direction: &[f64],
        step: f64,
        norm: f64,
    ) -> Result<Option<CentralDifference>> {
        let mut at = self.points[number].at.clone();
        let start = at[leaf].clone();
        let mut end = |by: f64| {
            let moved = start.iter().zip(direction).map(|(x, d)| x + by * d).collect();
            at[leaf] = self.function.rounded(moved)?;
            Ok::<_, candle_core::Error>((at[leaf].clone(), self.function.loss(&at)?))
        };
        let ((above, upper), (below, lower)) = (end(step)?, end(-step)?);
        let moved = above.iter().zip(&below).map(|(above, below)| above - below);
        let found =
            grads.iter().zip(moved).map(|(grad, moved)| grad * moved).sum::<f64>() / (2. * step);
        let expected = (upper - lower) / (2. * step);
        let resolution = 4. * self.points[number].noise / step;
        let step = CentralDifference { found, expected, norm, resolution };
        Ok(expected.is_finite().then_some(step))
    }
}

/// A central difference beside what the gradient gives.
struct CentralDifference {
    found: f64,
    expected: f64,
    /// What the gradient gives along such a direction on average.
    norm: f64,
    /// What can't be told from zero.
    resolution: f64,
}

impl CentralDifference {
    fn scale(&self) -> f64 {
        self.found.abs().max(self.expected.abs()).max(self.norm)
    }

    fn difference(&self) -> f64 {
        (self.found - self.expected).abs()
    }

    fn is_right(&self, tolerance: f64) -> bool {
        let scale = self.scale();
        self.resolution <= 0.1 * scale && self.difference() <= tolerance * scale + self.resolution
    }

    fn is_still(&self) -> bool {
        self.scale() <= self.resolution
    }
}

/// What steps tell of which none is right.
fn told(steps: &[CentralDifference]) -> Evidence {
    let largest = steps.iter().map(CentralDifference::scale).fold(0., f64::max);
    // At a small step all is lost in rounding: it tells of nothing that a larger one shows.
    let still = |step: &CentralDifference| {
        step.is_still() && (step.resolution <= 0.1 * largest || largest <= step.resolution)
    };
    if steps.iter().any(still) {
        return Evidence::Still;
    }
    let telling = steps.iter().filter(|step| step.resolution <= 0.1 * step.scale());
    let nearest = telling.min_by(|a, b| a.difference().total_cmp(&b.difference()));
    nearest.map_or(Evidence::Unclear, |step| Evidence::Off {
        found: step.found,
        expected: step.expected,
        part: None,
    })
}

/// Where directions lie: twice where the gradient is not zero, and where it is, by part.
fn masks(grads: &[f64], dims: &[usize]) -> Vec<(Option<ZeroPart>, Vec<bool>)> {
    let len: usize = dims.iter().product();
    let reached: Vec<_> = grads.iter().map(|grad| *grad != 0.).collect();
    if reached.iter().all(|reached| !reached) {
        return vec![(None, vec![true; grads.len()]); 2];
    }
    let mut masks = vec![(None, reached.clone()); 2];
    let in_no_set = |at: usize| (at..grads.len()).step_by(len).all(|at| !reached[at]);
    let zero: Vec<_> = (0..len).map(in_no_set).collect();
    let mut left: Vec<_> = reached.iter().map(|reached| !reached).collect();
    if let Some(part) = ZeroPart::of(&zero, dims) {
        let runs: Vec<_> = part.each_run().collect();
        for part in if runs.len() > MOST_RUNS { vec![part] } else { runs } {
            let mask: Vec<_> = (0..grads.len()).map(|at| part.holds(at % len, dims)).collect();
            left.iter_mut().zip(&mask).for_each(|(left, held)| *left &= !held);
            masks.push((Some(part), mask));
        }
    }
    if left.contains(&true) {
        masks.push((None, left));
    }
    masks
}
