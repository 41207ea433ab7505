//! Gradients of several batches over parameters that were generated once.

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, TensorId, Var};

use super::GeneratedParams;
use crate::ops::split::{Tally, hand_back};

/// Backward passes over parameters that are generated once: what a batch is cut into that does not fit into memory at
/// once. Made by [`GeneratedParams::micro_batches`].
///
/// Each pass ends at the generated parameters, whose gradients are added up; one pass takes the sum back through the
/// generator. The gradient is that of the sum of all losses: where each is a mean over a part of a batch, divide it by the
/// number of parts.
///
/// ```
/// use candle_core::{DType, Device, Result, Tensor};
/// use hypernn::nn::{AdamW, Linear, Optimizer, VarBuilder, VarMap};
/// use hypernn::{HyperTarget, hypernetwork};
///
/// #[derive(HyperTarget)]
/// #[hyper(sequential)]
/// struct Net {
///     #[hyper(linear(4, 2))]
///     fc: Linear,
/// }
///
/// hypernetwork! { struct HyperNet for Net { embedding: table(5, 3), generator: linear, mode: static } }
///
/// # fn main() -> Result<()> {
/// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
/// let mut optimizer = AdamW::new_lr(hyper.trainable(), 0.01)?;
/// let batch = Tensor::ones((64, 4), DType::F32, &Device::Cpu)?;
/// let mut passes = hyper.generate_params()?.micro_batches()?;
/// for part in batch.chunk(4, 0)? {
///     let loss = passes.params().forward(&part)?.sqr()?.mean_all()?;
///     passes.backward(&(loss / 4.)?)?;
/// }
/// optimizer.step(&passes.finish()?)?;
/// # Ok(())
/// # }
/// ```
pub struct MicroBatches<T> {
    generated: GeneratedParams<T>,
    params: GeneratedParams<T>,
    tally: Tally,
    /// Variables that losses depend on by another way than the generator, and the sums of their gradients.
    others: HashMap<TensorId, (Tensor, Tensor)>,
}

impl<T> GeneratedParams<T> {
    /// These parameters for several backward passes, so that they are generated once; see [`MicroBatches`].
    ///
    /// # Errors
    /// candle's own.
    pub fn micro_batches(self) -> Result<MicroBatches<T>> {
        let (tally, leaves) = Tally::over(&self.params, self.sets)?;
        let params = Self::of_params(self.plan.clone(), leaves, self.sets, self.kept.clone());
        let params = Self { ranked: self.ranked.clone(), ..params };
        Ok(MicroBatches { generated: self, params, tally, others: HashMap::new() })
    }
}

impl<T> MicroBatches<T> {
    /// The parameters that losses are computed with. Backward passes by themselves, `loss.backward()`, give variables
    /// other than the generator's their gradients, and what they give these parameters is part of the sum.
    pub fn params(&self) -> &GeneratedParams<T> {
        &self.params
    }

    /// Runs the backward pass of a loss, and adds up what it gives.
    ///
    /// # Errors
    /// candle's own.
    pub fn backward(&mut self, loss: &Tensor) -> Result<()> {
        let mut grads = loss.backward()?;
        for node in loss.sorted_nodes() {
            let Some(grad) = node.is_variable().then(|| grads.remove(node)).flatten() else {
                continue;
            };
            let sum = match self.others.remove(&node.id()) {
                Some((_, sum)) => (sum + grad)?,
                None => grad,
            };
            self.others.insert(node.id(), (node.clone(), sum));
        }
        Ok(())
    }

    /// The gradients of all variables: of the hypernetwork by one backward pass through the generator, and of what else
    /// the losses depended on.
    ///
    /// # Errors
    /// No gradient reaches a variable: there was no loss, or none that depends on one.
    pub fn finish(self) -> Result<GradStore> {
        let Self { generated, params, tally, others } = self;
        let sums = tally.take();
        drop(params);
        let mut grads = match hand_back(&generated.params, sums)? {
            Some(handed) => handed.backward()?,
            None if others.is_empty() => candle_core::bail!(
                "no gradient has reached the parameters of {}: `backward` takes losses that are computed with `params()`",
                generated.plan.name
            ),
            // A store is made by a backward pass alone.
            None => Var::zeros((), DType::F32, &Device::Cpu)?.backward()?,
        };
        for (var, sum) in others.into_values() {
            let sum = match grads.remove(&var) {
                Some(grad) => (sum + grad)?,
                None => sum,
            };
            grads.insert(&var, sum);
        }
        Ok(grads)
    }
}

impl<T> std::fmt::Debug for MicroBatches<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MicroBatches").field("params", &self.params).finish()
    }
}
