//! Exact initialisation: what is generated has unit variance, and each tensor of the target is
//! shifted and scaled to the mean and standard deviation that candle's own init would give it.
//!
//! The principle is that of Chang et al. 2020 ("Principled Weight Initialization for
//! Hypernetworks"); taking mean and deviation from the layout makes it exact for any chunking.
//!
//! Where candle starts a tensor at a constant (the gain of a norm, say) its deviation is zero, and
//! a scale of zero would never learn. Such a tensor is `(0.1 × generated - base) + constant`, where
//! `base` keeps what was generated first, so that the tensor starts at the constant exactly.
//!
//! A tensor that starts from a pretrained one has that in the constant's place. Where the generator
//! gives nothing first, for it depends on a condition, the tensor is `gain × generated + pretrained`,
//! with a gain that starts at zero.

use candle_core::{DType, Result, Shape, Tensor};
use candle_nn::init::NormalOrUniform;
use candle_nn::{Init, VarBuilder};

use crate::generator::GeneratorOutput;
use crate::init::{InitScheme, computed};
use crate::ops::split::{Slot, SplitPlan, split};
use crate::param::Param;
use crate::pretrained::Starts;
use crate::target::layout::{Layout, ParamInfo};

/// Mean and standard deviation of candle's init for a tensor of this shape.
pub(crate) fn moments(init: Init, shape: &Shape) -> (f64, f64) {
    match init {
        Init::Const(value) => (value, 0.),
        Init::Randn { mean, stdev } => (mean, stdev),
        Init::Uniform { lo, up } => ((lo + up) / 2., (up - lo).abs() / 12f64.sqrt()),
        Init::Kaiming {
            dist: NormalOrUniform::Normal | NormalOrUniform::Uniform,
            fan,
            non_linearity,
        } => (0., non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt()),
    }
}

/// The scale of what is generated for a tensor that starts at a constant.
const CONSTANT_SCALE: f64 = 0.1;

/// How generated values become each tensor's values.
#[derive(Clone, Debug)]
pub(crate) struct Scales {
    plan: SplitPlan,
    /// What comes after the split, of the tensors that are more than a slot.
    bases: Vec<(usize, Base)>,
}

/// What a tensor starts from.
#[derive(Clone, Debug)]
enum Base {
    /// What was generated first is taken off, and a start put in its place.
    First(Tensor, Start),
    /// What is generated is multiplied by one of the gains, zero at first, and added to a tensor.
    Gain { gains: Tensor, at: usize, start: Tensor },
}

#[derive(Clone, Debug)]
enum Start {
    Constant(f64),
    Tensor(Tensor),
}

impl Base {
    /// The first comes off first: what is left is zero at the start, whatever the rounding.
    fn apply(&self, tensor: &Tensor) -> Result<Tensor> {
        let cast = |kept: &Tensor| kept.to_dtype(tensor.dtype());
        match self {
            Self::First(first, start) => start.put(&tensor.broadcast_sub(&cast(first)?)?),
            Self::Gain { gains, at, start } => {
                tensor.broadcast_mul(&cast(&gains.get(*at)?)?)?.broadcast_add(&cast(start)?)
            }
        }
    }

    /// A gain has a gradient of its own, and so has what another hypernetwork generated.
    fn keeps_gradient(&self) -> bool {
        match self {
            Self::First(first, start) => !first.track_op() && !start.track_op(),
            Self::Gain { .. } => false,
        }
    }
}

impl Start {
    fn track_op(&self) -> bool {
        matches!(self, Self::Tensor(start) if start.track_op())
    }

    /// Adds it to the change from it.
    fn put(&self, change: &Tensor) -> Result<Tensor> {
        match self {
            Self::Constant(0.) => Ok(change.clone()),
            Self::Constant(value) => change + *value,
            Self::Tensor(start) => change.broadcast_add(&start.to_dtype(change.dtype())?),
        }
    }
}

impl Scales {
    /// Values are taken as they are generated.
    pub(crate) fn identity(layout: &Layout) -> Self {
        let slots = layout.params().iter().map(|param| slot(param, 0., 1.));
        Self { plan: SplitPlan::new(slots), bases: Vec::new() }
    }

    /// Each tensor starts with the statistics of candle's own init, or as its pretrained one.
    ///
    /// `first` is the first output of a static generator; bases are kept below `vb`. Where there is
    /// none, a tensor that candle starts at a constant starts near it.
    pub(crate) fn new(
        scheme: InitScheme,
        (layout, starts): (&Layout, &Starts),
        first: Option<&GeneratorOutput>,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let slot = |(index, param): (usize, &ParamInfo)| {
            let replaced = first.is_some() || starts.param(index).is_some();
            match scheme {
                InitScheme::Exact => exact_slot(param, replaced),
                InitScheme::HyperNn => slot(param, 0., 1.),
            }
        };
        let plan = SplitPlan::new(layout.params().iter().enumerate().map(slot));
        let bases = match first {
            Some(first) => {
                let first = split(&first.rows.detach(), None, &plan)?.params;
                firsts(scheme, (layout, starts), &first, &vb.pp("base"))?
            }
            None => gains((layout, starts), vb)?,
        };
        Ok(Self { plan, bases })
    }

    /// The same for tensors of this dtype.
    pub(crate) fn with_dtype(self, dtype: DType) -> Self {
        Self { plan: self.plan.with_dtype(dtype), ..self }
    }

    pub(crate) fn plan(&self) -> &SplitPlan {
        &self.plan
    }

    /// Puts the bases under parameters; those without one are as they should be already.
    pub(crate) fn with_bases(&self, mut params: Vec<Param>) -> Result<Vec<Param>> {
        for (index, base) in &self.bases {
            let param = &mut params[*index];
            *param = match base.keeps_gradient() {
                true => param.reshaped(|tensor| base.apply(tensor))?,
                false => base.apply(&param.collected()?)?.into(),
            };
        }
        Ok(params)
    }
}

fn slot(param: &ParamInfo, shift: f64, scale: f64) -> Slot {
    Slot { offset: param.offset, dims: param.shape.dims().to_vec(), scale, shift }
}

/// A base takes the place of a constant's shift.
fn exact_slot(param: &ParamInfo, replaced: bool) -> Slot {
    match moments(param.init, &param.shape) {
        (_, 0.) if replaced => slot(param, 0., CONSTANT_SCALE),
        (mean, 0.) => slot(param, mean, CONSTANT_SCALE),
        (mean, std) => slot(param, mean, std),
    }
}

/// What makes each tensor start where it should, and not at what is generated first.
fn firsts(
    scheme: InitScheme,
    (layout, starts): (&Layout, &Starts),
    first: &[Param],
    vb: &VarBuilder<'_>,
) -> Result<Vec<(usize, Base)>> {
    let mut bases = Vec::new();
    for (index, param) in layout.params().iter().enumerate() {
        let constant = (scheme == InitScheme::Exact).then(|| constant(param)).flatten();
        let start = match starts.param(index) {
            Some(start) => Start::Tensor(start.clone()),
            None => match constant {
                Some(constant) => Start::Constant(constant),
                None => continue,
            },
        };
        let (dims, init) = (param.shape.dims(), Init::Const(constant.unwrap_or(0.)));
        let first = computed(vb, dims, &param.name, init, |_| Ok(first[index].values().clone()))?;
        // A variable is kept as it is; one that another hypernetwork generated is not.
        let first = if first.is_variable() { first.detach() } else { first };
        bases.push((index, Base::First(first, start)));
    }
    Ok(bases)
}

/// One gain per tensor that has a pretrained start, the values of the variable `gains`.
fn gains((layout, starts): (&Layout, &Starts), vb: &VarBuilder<'_>) -> Result<Vec<(usize, Base)>> {
    let indices = 0..layout.params().len();
    let starts: Vec<_> = indices.filter_map(|i| Some((i, starts.param(i)?.clone()))).collect();
    if starts.is_empty() {
        return Ok(Vec::new());
    }
    let gains = vb.get_with_hints(starts.len(), "gains", Init::Const(0.))?;
    let base = |(at, (index, start))| (index, Base::Gain { gains: gains.clone(), at, start });
    Ok(starts.into_iter().enumerate().map(base).collect())
}

/// The constant at which candle starts a tensor, if it does.
fn constant(param: &ParamInfo) -> Option<f64> {
    let (mean, std) = moments(param.init, &param.shape);
    (std == 0.).then_some(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The moments of each init, against a million of candle's own draws.
    #[test]
    fn moments_are_those_of_candle() -> Result<()> {
        use candle_nn::init::{DEFAULT_KAIMING_NORMAL, DEFAULT_KAIMING_UNIFORM};
        let inits = [
            Init::Uniform { lo: -0.5, up: 2. },
            Init::Randn { mean: 1., stdev: 0.3 },
            DEFAULT_KAIMING_NORMAL,
            DEFAULT_KAIMING_UNIFORM,
            Init::Const(0.25),
        ];
        for init in inits {
            let shape = Shape::from((1000, 10, 100));
            let (mean, std) = moments(init, &shape);
            let drawn = init.var(shape, candle_core::DType::F64, &candle_core::Device::Cpu)?;
            let found_mean = drawn.mean_all()?.to_scalar::<f64>()?;
            let found_var =
                (drawn.as_tensor() - found_mean)?.sqr()?.mean_all()?.to_scalar::<f64>()?;
            assert!((found_mean - mean).abs() <= 5e-3 * std, "{init:?}: mean {found_mean}, {mean}");
            assert!(
                (found_var.sqrt() - std).abs() <= 5e-3 * std,
                "{init:?}: std {found_var}, {std}"
            );
        }
        Ok(())
    }
}
