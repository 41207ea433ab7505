//! Generated parameters as one flat vector.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::scale::Scales;
use super::{GeneratedParams, Kept, TargetPlan};
use crate::generator::GeneratorOutput;
use crate::ops::split::split_whole;
use crate::structure::layout::{Layout, Recorded};
use crate::structure::value::Values;

/// What every flat vector of a target needs, recorded once.
pub(crate) struct FlatRecord {
    pub(crate) layout: Layout,
    pub(super) values: Arc<Values>,
    /// Values are taken as they are.
    pub(super) plain: Scales,
    /// A flat vector comes with nothing but what fields without parameters hold.
    pub(crate) kept: Kept,
}

impl FlatRecord {
    pub(crate) fn new((layout, values): Recorded) -> Self {
        let plain = Scales::identity(&layout);
        let kept = Kept::of(&values);
        Self { layout, values: values.into(), plain, kept }
    }
}

impl<T> TargetPlan<T> {
    /// Takes a flat vector `[P]`, or `G` sets `[G, P]`, as parameters of this plan's target: a layout that is recorded
    /// once serves any number of them, where the target has a configuration. Gradients flow into the vector. What fields
    /// without parameters hold is the plan's own.
    ///
    /// The tensors of one set are views of the vector, as those of candle's `narrow`: they change with a variable that
    /// an optimiser changes. Their gradients cost no more than the vector, however many they are.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use candle_core::{DType, Device, Result, Tensor};
    /// use hypernn::HyperTarget;
    /// use hypernn::generated::TargetPlan;
    /// use hypernn::nn::Linear;
    ///
    /// #[derive(HyperTarget)]
    /// #[hyper(config = usize, sequential)]
    /// struct Net {
    ///     #[hyper(linear(*config, 2))]
    ///     fc: Linear,
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let plan = Arc::new(TargetPlan::<Net>::new(&3)?);
    /// let xs = Tensor::ones((4, 3), DType::F32, &Device::Cpu)?;
    /// for scale in [0.1f32, 0.2] {
    ///     let flat = Tensor::full(scale, plan.num_params(), &Device::Cpu)?;
    ///     assert_eq!(plan.params_from_flat(&flat)?.forward(&xs)?.dims(), [4, 2]);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The vector's length, rank or dtype is not the target's.
    pub fn params_from_flat(self: &Arc<Self>, flat: &Tensor) -> Result<GeneratedParams<T>> {
        GeneratedParams::from_flat_and_kept(self.clone(), flat, Kept::of(&self.values))
    }
}

impl<T> GeneratedParams<T> {
    /// Takes a flat vector `[P]`, or `G` sets `[G, P]`, as it is, with the tensors that a hypernetwork
    /// keeps.
    pub(crate) fn from_flat_and_kept(
        plan: Arc<TargetPlan<T>>,
        flat: &Tensor,
        kept: Kept,
    ) -> Result<Self> {
        let (sets, scales) = (check_flat(&plan, flat)?, plan.plain().clone());
        let generated = GeneratorOutput::from(flat.clone());
        if sets.is_some() {
            return Self::from_generated(plan, &generated, sets, &scales, kept);
        }
        // One set lies there as its tensors do.
        let split = split_whole(&generated.rows, None, scales.plan())?;
        Ok(Self::of_params(plan, split.params, None, kept).watched_by(split.watch))
    }
}

/// The number of sets in a flat vector, after its shape and dtype have been checked.
pub(super) fn check_flat<T>(plan: &TargetPlan<T>, flat: &Tensor) -> Result<Option<usize>> {
    let TargetPlan { name, layout, .. } = plan;
    let expected = layout.num_params();
    let (sets, found) = match *flat.dims() {
        [found] => (None, found),
        [0, _] => crate::error::bail!(
            shape,
            "the flat vector of {} has shape {:?}, expected at least one set",
            name,
            flat.dims()
        ),
        [sets, found] => (Some(sets), found),
        _ => crate::error::bail!(
            shape,
            "the flat vector of {} has shape {:?}, expected [{expected}], or [G, {expected}] for G sets",
            name,
            flat.dims()
        ),
    };
    if !flat.dtype().is_float() {
        crate::error::bail!(
            dtype,
            "the flat vector of {} has dtype {:?}, expected a floating dtype",
            name,
            flat.dtype()
        );
    }
    if found < expected {
        let starved = layout.param_at(found).map_or("", |param| param.name.as_str());
        crate::error::bail!(
            shape,
            "the flat vector of {} has {found} values, expected {expected}: `{starved}` runs out of values",
            name
        );
    }
    if found > expected {
        crate::error::bail!(
            shape,
            "the flat vector of {} has {found} values, expected {expected}: the last {} feed no parameter",
            name,
            found - expected
        );
    }
    Ok(sets)
}

/// The flat vector of tensors `[dims…]`, or of `[G, dims…]`.
pub(crate) fn flatten(tensors: &[Tensor], sets: Option<usize>) -> Result<Tensor> {
    let rows = tensors.iter().map(|tensor| match sets {
        None => tensor.flatten_all(),
        Some(sets) => tensor.reshape((sets, ())),
    });
    Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, candle_core::D::Minus1)
}
