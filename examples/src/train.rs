//! What training loops need.

use anyhow::{Result, ensure};
use candle_core::backprop::GradStore;
use candle_core::{D, DType, Module, Tensor};
use hypernn::nn::VarMap;

use crate::data::Split;

/// The share of a split that a classifier gets right.
///
/// # Errors
/// The network's own.
pub fn accuracy(net: &impl Module, split: &Split) -> Result<f64> {
    let mut right = 0.;
    for start in (0..split.len()).step_by(ROWS) {
        let part = split.narrow(start, ROWS.min(split.len() - start))?;
        let found = net.forward(&part.images)?.argmax(D::Minus1)?;
        let hits = found.eq(&part.labels)?.to_dtype(DType::F32)?.sum_all()?;
        right += f64::from(hits.to_scalar::<f32>()?);
    }
    Ok(right / split.len() as f64)
}

/// Images that are classified at once: activations of ten thousand would take gigabytes.
const ROWS: usize = 1000;

/// A loss as a number.
///
/// # Errors
/// It is not a scalar, or it is not finite: the training has diverged.
pub fn loss_value(loss: &Tensor) -> Result<f64> {
    let value = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    ensure!(value.is_finite(), "the loss is {value}: try a smaller learning rate");
    Ok(value)
}

/// A learning rate that rises over the first twentieth of the steps, then falls from `peak` to zero
/// along half a cosine.
pub fn cosine(peak: f64, step: usize, steps: usize) -> f64 {
    let rise = (steps / 20).max(1) as f64;
    let step = step as f64;
    if step < rise {
        return peak * (step + 1.) / rise;
    }
    let done = ((step - rise) / (steps as f64 - rise).max(1.)).min(1.);
    peak * 0.5 * (1. + (std::f64::consts::PI * done).cos())
}

/// Scales all gradients so that their common norm is at most `limit`.
///
/// Squares are summed in the order of the variables' names, so that each run has the same sum.
///
/// # Errors
/// candle's own.
pub fn clip(grads: &mut GradStore, vars: &VarMap, limit: f64) -> Result<()> {
    let Ok(vars) = vars.data().lock() else { anyhow::bail!("the variables are poisoned") };
    let mut named: Vec<_> = vars.iter().collect();
    named.sort_unstable_by_key(|(name, _)| *name);
    let mut squares = 0.;
    for grad in named.iter().filter_map(|(_, var)| grads.get(var)) {
        squares += grad.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    }
    let scale = limit / squares.sqrt();
    for (_, var) in named.iter().filter(|_| scale < 1.) {
        if let Some(grad) = grads.remove(var) {
            grads.insert(var, (grad * scale)?);
        }
    }
    Ok(())
}

/// The mean of some values, not a number where there are none.
pub fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) =
        values.into_iter().fold((0., 0.), |(sum, count), value| (sum + value, count + 1.));
    sum / count
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use candle_nn::Init;
    use hypernn::nn::VarBuilder;

    use super::*;

    #[test]
    fn gradients_keep_their_direction() -> Result<()> {
        let vars = VarMap::new();
        let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
        let [a, b] = ["a", "b"].map(|name| vb.get_with_hints(1, name, Init::Const(1.)));
        let (a, b) = (a?, b?);
        let loss = ((&a * 3.)? + (&b * 4.)?)?.sum_all()?;
        for (limit, expected) in [(10., [3f32, 4.]), (1., [0.6, 0.8])] {
            let mut grads = loss.backward()?;
            clip(&mut grads, &vars, limit)?;
            for (tensor, expected) in [&a, &b].into_iter().zip(expected) {
                let found = grads.get(tensor).map(Tensor::to_vec1::<f32>).transpose()?;
                assert_eq!(found, Some(vec![expected]), "limit {limit}");
            }
        }
        Ok(())
    }

    #[test]
    fn the_learning_rate_rises_and_falls() {
        let rate = |step| cosine(2., step, 100);
        assert_eq!(rate(4), 2.);
        assert!(rate(0) < rate(3) && rate(10) > rate(90));
        assert!(rate(99) > 0. && rate(99) < 0.01 && rate(100) < 1e-9);
    }
}
