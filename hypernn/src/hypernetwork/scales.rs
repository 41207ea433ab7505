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
//! with a gain that starts at zero. A generator whose output for a tensor starts at zero needs neither a base nor a
//! gain for it.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::generated::scale::{Base, Scales, StartValue, slot};
use crate::generator::GeneratorOutput;
use crate::init::{InitScheme, computed, moments};
use crate::ops::split::{Slot, SplitPlan, split};
use crate::pretrained::InitialValues;
use crate::structure::layout::{Layout, ParamInfo};

/// The scale of what is generated for a tensor that starts at a constant.
const CONSTANT_SCALE: f64 = 0.1;

/// What is known of the first output of a generator.
#[derive(Clone, Copy)]
pub(super) struct FirstOutput<'a> {
    /// All of it, where it is the same whatever the condition.
    pub(super) all: Option<&'a GeneratorOutput>,
    /// Whether it is zero for a tensor, whatever the condition.
    pub(super) is_zero: &'a dyn Fn(&ParamInfo) -> bool,
}

impl Scales {
    /// Each tensor starts with the statistics of candle's own init, or as its pretrained one.
    ///
    /// Bases of what a static generator gives first are kept below `vb`. Where there is none, a tensor that candle
    /// starts at a constant starts near it.
    pub(super) fn new(
        scheme: InitScheme,
        layout: &Layout,
        initial_values: &InitialValues,
        first: FirstOutput<'_>,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let slot = |(index, param): (usize, &ParamInfo)| {
            let is_kept = first.all.is_some() && !(first.is_zero)(param);
            let replaced = is_kept || initial_values.param(index).is_some();
            match scheme {
                InitScheme::Exact => exact_slot(param, replaced),
                InitScheme::HyperNn => slot(param, 0., 1.),
            }
        };
        let plan = SplitPlan::new(layout.params().iter().enumerate().map(slot));
        let mut bases = starts(layout, initial_values, first)?;
        bases.extend(match first.all {
            Some(all) => {
                let params = layout.params().iter().enumerate();
                let shown = params.filter(|(_, param)| !(first.is_zero)(param));
                let starts = shown.filter_map(|(index, param)| {
                    Some((index, param, start_value(scheme, initial_values, index, param)?))
                });
                firsts(all, &plan, starts.collect(), &vb.pp("base"))?
            }
            None => gains(layout, initial_values, first, vb)?,
        });
        Ok(Self { plan, bases })
    }
}

/// A base takes the place of a constant's shift.
fn exact_slot(param: &ParamInfo, replaced: bool) -> Slot {
    match moments(param.init, &param.shape) {
        (_, 0.) if replaced => slot(param, 0., CONSTANT_SCALE),
        (mean, 0.) => slot(param, mean, CONSTANT_SCALE),
        (mean, std) => slot(param, mean, std),
    }
}

/// The starts of tensors to which nothing is added at first.
fn starts(
    layout: &Layout,
    initial_values: &InitialValues,
    first: FirstOutput<'_>,
) -> Result<Vec<(usize, Base)>> {
    let mut bases = Vec::new();
    for (index, _) in layout.params().iter().enumerate().filter(|(_, at)| (first.is_zero)(at)) {
        let Some(start) = initial_values.param(index) else { continue };
        if !is_zero(start)? {
            bases.push((index, Base::Start(start.clone())));
        }
    }
    Ok(bases)
}

/// Whether all values are zero, as those of an adapter that adds nothing.
fn is_zero(tensor: &Tensor) -> Result<bool> {
    let others = tensor.ne(0f64)?.flatten_all()?.max(0)?;
    Ok(others.to_scalar::<u8>()? == 0)
}

/// Where a tensor should start, if not at what is generated first.
fn start_value(
    scheme: InitScheme,
    initial_values: &InitialValues,
    index: usize,
    param: &ParamInfo,
) -> Option<StartValue> {
    if let Some(start) = initial_values.param(index) {
        return Some(StartValue::Tensor(start.clone()));
    }
    let constant = (scheme == InitScheme::Exact).then(|| constant(param)).flatten();
    constant.map(StartValue::Constant)
}

/// What makes each of these tensors start where it should, and not at what is generated first. Nothing else is
/// generated: a target that is streamed does not fit into memory.
fn firsts(
    all: &GeneratorOutput,
    plan: &SplitPlan,
    starts: Vec<(usize, &ParamInfo, StartValue)>,
    vb: &VarBuilder<'_>,
) -> Result<Vec<(usize, Base)>> {
    let mut bases = Vec::with_capacity(starts.len());
    if starts.is_empty() {
        return Ok(bases);
    }
    let plan = plan.only(starts.iter().map(|(index, ..)| *index));
    let firsts = split(&all.rows.detach(), None, &plan)?.params;
    for ((index, param, start), first) in starts.into_iter().zip(firsts) {
        let constant = constant(param).unwrap_or(0.);
        let (dims, init) = (param.shape.dims(), Init::Const(constant));
        let first = computed(vb, dims, &param.name, init, |_| Ok(first.values().clone()))?;
        // A variable is kept as it is; one that another hypernetwork generated is not.
        let first = if first.is_variable() { first.detach() } else { first };
        bases.push((index, Base::First(first, start)));
    }
    Ok(bases)
}

/// One gain per tensor that has a pretrained start and does not start at zero by itself, the values of the variable
/// `gains`.
fn gains(
    layout: &Layout,
    initial_values: &InitialValues,
    first: FirstOutput<'_>,
    vb: &VarBuilder<'_>,
) -> Result<Vec<(usize, Base)>> {
    let params = layout.params().iter().enumerate().filter(|(_, param)| !(first.is_zero)(param));
    let starts: Vec<_> =
        params.filter_map(|(i, _)| Some((i, initial_values.param(i)?.clone()))).collect();
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
