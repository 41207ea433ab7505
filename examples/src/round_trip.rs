//! Whether what was saved computes what was trained.

use anyhow::Result;
use candle_core::{DType, Tensor};

/// The largest difference between the logits of a hypernetwork and those of the reloaded one and of the
/// ordinary network from the exported checkpoint, for the same input; prints how well they agree.
///
/// # Errors
/// Shapes that differ.
pub fn compare(logits: &Tensor, others: &[Tensor; 2]) -> Result<f64> {
    let difference = largest_difference(logits, others)?;
    println!(
        "Logits of the hypernetwork, of the reloaded one and of the ordinary network built from \
         the exported checkpoint agree {}.",
        verdict(difference)
    );
    Ok(difference)
}

/// The largest difference between these outputs and others.
fn largest_difference(outputs: &Tensor, others: &[Tensor]) -> Result<f64> {
    let mut largest = 0f64;
    for other in others {
        let difference = (outputs - other)?.abs()?.max_all()?.to_dtype(DType::F64)?;
        largest = largest.max(difference.to_scalar::<f64>()?);
    }
    Ok(largest)
}

/// On the processor the difference is zero; elsewhere sums may be taken in another order.
pub fn agrees(difference: f64) -> bool {
    difference <= 1e-4
}

/// How well they agree, in words.
fn verdict(difference: f64) -> String {
    match difference {
        0. => "exactly".to_owned(),
        _ => format!("up to {difference:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_largest_difference_counts() -> Result<()> {
        let tensor = |values: [f32; 2]| Tensor::new(&values, &Device::Cpu);
        let others = [tensor([1., 2.])?, tensor([1., 1.5])?];
        let difference = largest_difference(&tensor([1., 2.])?, &others)?;
        assert_eq!((difference, agrees(difference)), (0.5, false));
        assert_eq!([verdict(0.), verdict(difference)], ["exactly", "up to 5.0e-1"]);
        Ok(())
    }
}
