//! Generated parameters as one flat vector.

use candle_core::{Result, Tensor};

use super::TargetPlan;

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
