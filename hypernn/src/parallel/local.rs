//! What a rank adds up by itself before gradients are exchanged.

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::error::bail;
use crate::ops::wide;

/// The mean gradient over the samples that a rank has had since the last step.
#[derive(Debug)]
pub(super) struct LocalGradients {
    vars: Vec<Var>,
    samples: f64,
    /// The sum of the losses of all samples.
    loss: f64,
    /// By variable; none that the loss has not reached.
    means: Vec<Option<Tensor>>,
}

impl LocalGradients {
    pub(super) fn new(vars: Vec<Var>) -> Self {
        let means = vec![None; vars.len()];
        Self { vars, samples: 0., loss: 0., means }
    }

    /// Takes in the mean loss of some samples.
    pub(super) fn add(
        &mut self,
        samples: usize,
        loss: impl FnOnce() -> Result<Tensor>,
    ) -> Result<()> {
        if samples == 0 {
            return Ok(());
        }
        let (loss, samples) = (loss()?, samples as f64);
        if loss.rank() > 0 {
            bail!(shape, "the loss has shape {:?}, expected a scalar", loss.dims());
        }
        let mut grads = loss.backward()?;
        let (before, all) = (self.samples, self.samples + samples);
        for (var, mean) in self.vars.iter().zip(&mut self.means) {
            let grad = grads.remove(var).map(|grad| wide(&grad)).transpose()?;
            *mean = mixed((mean.take(), before / all), (grad, samples / all))?;
        }
        self.samples = all;
        let loss = loss.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        self.loss += samples * loss.to_scalar::<f64>()?;
        Ok(())
    }

    /// What other ranks have to know: the number of samples, their losses and which variables have gradients.
    pub(super) fn told(&self) -> Vec<f64> {
        let with_gradient = self.means.iter().map(|mean| f64::from(u8::from(mean.is_some())));
        [self.samples, self.loss].into_iter().chain(with_gradient).collect()
    }

    pub(super) fn told_len(&self) -> usize {
        2 + self.vars.len()
    }

    /// This rank's part of the mean over so many samples, of the variables that have a gradient anywhere.
    pub(super) fn shares(
        &self,
        samples: f64,
        with_gradient: &[f64],
    ) -> Result<Vec<(usize, Tensor)>> {
        let wanted = with_gradient.iter().enumerate().filter(|(_, ranks)| **ranks > 0.);
        let share = |number: usize| match &self.means[number] {
            Some(mean) => scaled(mean, self.samples / samples),
            None => wide(self.vars[number].as_tensor())?.zeros_like(),
        };
        wanted.map(|(number, _)| Ok((number, share(number)?))).collect()
    }

    pub(super) fn clear(&mut self) {
        (self.samples, self.loss) = (0., 0.);
        self.means.fill(None);
    }
}

/// The weighted sum of two gradients, of which none is zero.
fn mixed(
    (first, first_weight): (Option<Tensor>, f64),
    (second, second_weight): (Option<Tensor>, f64),
) -> Result<Option<Tensor>> {
    match (first, second) {
        (Some(first), Some(second)) => {
            Ok(Some((scaled(&first, first_weight)? + scaled(&second, second_weight)?)?))
        }
        (Some(first), None) => scaled(&first, first_weight).map(Some),
        (None, Some(second)) => scaled(&second, second_weight).map(Some),
        (None, None) => Ok(None),
    }
}

/// As it is, bit for bit, where the factor is one.
fn scaled(tensor: &Tensor, factor: f64) -> Result<Tensor> {
    if factor == 1. { Ok(tensor.clone()) } else { tensor * factor }
}
