//! What tells one pretrained network from another in whatever dtype both are: two measures of each tensor, which
//! rounding hardly changes.
//!
//! The norm, and the sum of the values with fixed signs as good as random: of other values of the same norm it is
//! another by about that norm. Networks that differ by less than their dtypes' rounding are not told apart.

use candle_core::{DType, Device, Result, Tensor};

/// The tensor of a checkpoint that has them: `[tensors, 2]` in f64, in the order of the tensors' names.
pub(super) const MEASURES: &str = "pretrained_measures";

/// Errors of rounding add up as random steps do; this many of their deviations never happen.
const DEVIATIONS: f64 = 8.;

/// Norm and signed sum of each tensor.
pub(super) fn measures(tensors: &[(String, Tensor)]) -> Result<Tensor> {
    let measured = sorted(tensors).into_iter().map(|(_, tensor)| measure(tensor));
    let measured = measured.collect::<Result<Vec<_>>>()?;
    Tensor::from_slice(measured.as_flattened(), (measured.len(), 2), &Device::Cpu)
}

/// The name of the first tensor whose measures are others than those of a network that was of the dtype `saved`.
pub(super) fn first_other(
    found: &Tensor,
    own: &[(String, Tensor)],
    saved: DType,
) -> Result<Option<String>> {
    let found = found.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let own = sorted(own);
    // A file may say anything.
    if found.dims() != [own.len(), 2] {
        return Ok(own.first().map(|(name, _)| name.clone()));
    }
    for ((name, tensor), found) in own.into_iter().zip(found.to_vec2::<f64>()?) {
        let tolerance = tolerance(tensor, saved, found[0]);
        let measured = measure(tensor)?;
        let other = |at: usize| (found[at] - measured[at]).abs() > tolerance;
        // NaN is no other: it says nothing.
        if other(0) || other(1) {
            return Ok(Some(name.clone()));
        }
    }
    Ok(None)
}

fn sorted(tensors: &[(String, Tensor)]) -> Vec<&(String, Tensor)> {
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
    sorted
}

fn measure(tensor: &Tensor) -> Result<[f64; 2]> {
    let values = tensor.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let values = values.to_vec1::<f64>()?;
    let squares: f64 = values.iter().map(|value| value * value).sum();
    let signed = values.iter().zip(0..).map(|(value, index)| value * sign(index)).sum();
    Ok([squares.sqrt(), signed])
}

/// One bit of a good mix of the index (SplitMix64).
fn sign(index: u64) -> f64 {
    let mixed = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    if (mixed ^ (mixed >> 31)) & 1 == 0 { 1. } else { -1. }
}

/// How far the measures of the same values can lie apart in two dtypes.
fn tolerance(tensor: &Tensor, saved: DType, norm: f64) -> f64 {
    let relative = rounding(tensor.dtype()).max(rounding(saved));
    // Below its least normal number f16 has steps of 6e-8.
    let least = 6e-8 * (tensor.elem_count() as f64).sqrt();
    DEVIATIONS * (relative * norm + least)
}

/// The largest relative error of a value.
fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON / 2.,
        DType::F32 => f64::from(f32::EPSILON) / 2.,
        DType::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOATS: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

    fn network(seed: u64, dtype: DType) -> Result<Vec<(String, Tensor)>> {
        let values =
            |len: u64, seed: u64| (0..len).map(move |i| sign(i + seed) * (i % 17) as f64 / 16.3);
        let tensor = |name: &str, seed, dims: &[usize]| {
            let values: Vec<_> = values(dims.iter().product::<usize>() as u64, seed).collect();
            let tensor = Tensor::from_slice(&values, dims, &Device::Cpu)?.to_dtype(dtype)?;
            Ok::<_, candle_core::Error>((name.to_owned(), tensor))
        };
        Ok(vec![tensor("b.weight", seed, &[40, 30])?, tensor("a.bias", 5, &[7])?])
    }

    #[test]
    fn rounding_is_no_difference_and_other_values_are() -> Result<()> {
        for (saved, now) in FLOATS.into_iter().flat_map(|saved| FLOATS.map(|now| (saved, now))) {
            let found = measures(&network(1, saved)?)?;
            assert_eq!(first_other(&found, &network(1, now)?, saved)?, None, "{saved:?} {now:?}");
            let other = first_other(&found, &network(2000, now)?, saved)?;
            assert_eq!(other.as_deref(), Some("b.weight"), "{saved:?} {now:?}");
        }
        Ok(())
    }

    #[test]
    fn another_number_of_tensors_is_another_network() -> Result<()> {
        let found = measures(&network(1, DType::F32)?[..1])?;
        let other = first_other(&found, &network(1, DType::BF16)?, DType::F32)?;
        assert_eq!(other.as_deref(), Some("a.bias"));
        Ok(())
    }
}
