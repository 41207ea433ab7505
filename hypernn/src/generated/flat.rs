//! Generated parameters as one flat vector.

use candle_core::{Result, Tensor};

use super::TargetPlan;
use crate::check::ensure_same_device;
use crate::target::HyperTarget;
use crate::target::layout::{Layout, Place};

/// The number of sets in a flat vector, after its shape and dtype have been checked.
pub(super) fn check_flat<T>(plan: &TargetPlan<T>, flat: &Tensor) -> Result<Option<usize>> {
    let TargetPlan { name, layout, .. } = plan;
    let expected = layout.num_params();
    let (sets, found) = match *flat.dims() {
        [found] => (None, found),
        [0, _] => candle_core::bail!(
            "the flat vector of {} has shape {:?}, expected at least one set",
            name,
            flat.dims()
        ),
        [sets, found] => (Some(sets), found),
        _ => candle_core::bail!(
            "the flat vector of {} has shape {:?}, expected [{expected}], or [G, {expected}] for G sets",
            name,
            flat.dims()
        ),
    };
    if !flat.dtype().is_float() {
        candle_core::bail!(
            "the flat vector of {} has dtype {:?}, expected a floating dtype",
            name,
            flat.dtype()
        );
    }
    if found < expected {
        let starved = layout.param_at(found).map_or("", |param| param.name.as_str());
        candle_core::bail!(
            "the flat vector of {} has {found} values, expected {expected}: `{starved}` runs out of values",
            name
        );
    }
    if found > expected {
        candle_core::bail!(
            "the flat vector of {} has {found} values, expected {expected}: the last {} feed no parameter",
            name,
            found - expected
        );
    }
    Ok(sets)
}

/// The flat vector of tensors `[dims…]`, or of `[G, dims…]`.
pub(super) fn flatten(tensors: &[Tensor], sets: Option<usize>) -> Result<Tensor> {
    let rows = tensors.iter().map(|tensor| match sets {
        None => tensor.flatten_all(),
        Some(sets) => tensor.reshape((sets, ())),
    });
    Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, candle_core::D::Minus1)
}

/// The generated parameters of a network as one flat vector.
pub(crate) fn pack<T: HyperTarget>(net: &T, layout: &Layout) -> Result<Tensor> {
    let (mut tensors, mut found) = (Vec::with_capacity(layout.params().len()), 0);
    net.visit(&mut |_name, tensor| {
        let place = layout.places().get(found).map(|(_, place)| *place);
        if place == Some(Place::Generated(tensors.len())) {
            tensors.push(tensor.clone());
        }
        found += 1;
        Ok(())
    })?;
    let expected = layout.places().len();
    if found != expected {
        candle_core::bail!("{} has {found} tensors, but its layout {expected}", T::NAME);
    }
    let Some((param, first)) = layout.params().iter().zip(&tensors).next() else {
        candle_core::bail!("target {} has no parameters, so there is nothing to pack", T::NAME);
    };
    for (other, tensor) in layout.params().iter().zip(&tensors) {
        ensure_same_device(
            (&format!("`{}` of {}", other.name, T::NAME), tensor.device().location()),
            (&format!("`{}`", param.name), first.device().location()),
        )?;
        if tensor.dtype() != first.dtype() {
            let (found, expected) = (tensor.dtype(), first.dtype());
            candle_core::bail!(
                "`{}` of {} is {found:?}, but `{}` {expected:?}",
                other.name,
                T::NAME,
                param.name
            );
        }
    }
    let sets = (first.rank() > param.shape.rank()).then(|| first.dim(0)).transpose()?;
    flatten(&tensors, sets)
}
