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

use candle_core::Result;
use candle_nn::{Init, VarBuilder};

use crate::generated::scale::{Base, Scales, StartValue, slot};
use crate::generator::GeneratorOutput;
use crate::init::{InitScheme, computed, moments};
use crate::ops::split::{Slot, SplitPlan, split};
use crate::param::Param;
use crate::pretrained::InitialValues;
use crate::structure::layout::{Layout, ParamInfo};

/// The scale of what is generated for a tensor that starts at a constant.
const CONSTANT_SCALE: f64 = 0.1;

impl Scales {
    /// Each tensor starts with the statistics of candle's own init, or as its pretrained one.
    ///
    /// `first` is the first output of a static generator; bases are kept below `vb`. Where there is
    /// none, a tensor that candle starts at a constant starts near it.
    pub(crate) fn new(
        scheme: InitScheme,
        layout: &Layout,
        initial_values: &InitialValues,
        first: Option<&GeneratorOutput>,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let slot = |(index, param): (usize, &ParamInfo)| {
            let replaced = first.is_some() || initial_values.param(index).is_some();
            match scheme {
                InitScheme::Exact => exact_slot(param, replaced),
                InitScheme::HyperNn => slot(param, 0., 1.),
            }
        };
        let plan = SplitPlan::new(layout.params().iter().enumerate().map(slot));
        let bases = match first {
            Some(first) => {
                let first = split(&first.rows.detach(), None, &plan)?.params;
                firsts(scheme, layout, initial_values, &first, &vb.pp("base"))?
            }
            None => gains(layout, initial_values, vb)?,
        };
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

/// What makes each tensor start where it should, and not at what is generated first.
fn firsts(
    scheme: InitScheme,
    layout: &Layout,
    initial_values: &InitialValues,
    first: &[Param],
    vb: &VarBuilder<'_>,
) -> Result<Vec<(usize, Base)>> {
    let mut bases = Vec::new();
    for (index, param) in layout.params().iter().enumerate() {
        let constant = (scheme == InitScheme::Exact).then(|| constant(param)).flatten();
        let start = match initial_values.param(index) {
            Some(start) => StartValue::Tensor(start.clone()),
            None => match constant {
                Some(constant) => StartValue::Constant(constant),
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
fn gains(
    layout: &Layout,
    initial_values: &InitialValues,
    vb: &VarBuilder<'_>,
) -> Result<Vec<(usize, Base)>> {
    let indices = 0..layout.params().len();
    let starts: Vec<_> =
        indices.filter_map(|i| Some((i, initial_values.param(i)?.clone()))).collect();
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
