//! Single sets among several.

use candle_core::{Result, Tensor, Var};

use super::{GeneratedParams, Kept};
use crate::ops::split::{Unstack, unstack};

impl<T> GeneratedParams<T> {
    /// One of several weight sets, by itself; a copy, which holds nothing of the others. Where each set has
    /// running statistics of its own, it has a copy of them. Gradients flow back.
    ///
    /// # Errors
    /// There is no such set.
    pub fn set(&self, index: usize) -> Result<Self> {
        match self.sets {
            Some(sets) if index < sets => {}
            Some(sets) => {
                crate::error::bail!(shape, "there is no set {index}, expected one of {sets}")
            }
            None => crate::error::bail!(shape, "there is no set {index}: one set serves every row"),
        }
        let tensors = self.by_set()?.iter().map(|sets| sets.get(index));
        Ok(self.with_tensors(tensors.collect::<Result<_>>()?, None, self.kept.set(index)?))
    }

    /// The sets of these numbers, in this order, each as often as it is named: what a batch of
    /// requests takes from adapters that are kept. One set that serves every row is number 0.
    ///
    /// Parameters of `G` sets, `[G, dims…]`, become parameters of as many as there are numbers, as
    /// copies. Gradients flow back; those of a set that is named several times are added up. Where each
    /// set has running statistics of its own, the new sets have copies of them.
    ///
    /// ```
    /// use candle_core::{DType, Device, Result, Tensor};
    /// use hypernn::nn::{Linear, VarBuilder, VarMap};
    /// use hypernn::{HyperTarget, hypernetwork};
    ///
    /// #[derive(HyperTarget)]
    /// #[hyper(sequential)]
    /// struct Net {
    ///     #[hyper(linear(4, 2))]
    ///     fc: Linear,
    /// }
    ///
    /// hypernetwork! {
    ///     struct HyperNet for Net { embedding: tasks(3, 5, 4), generator: linear, mode: dynamic }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
    /// let tasks = hyper.generate_params(&Tensor::new(&[0u32, 1, 2], &Device::Cpu)?)?.detach();
    /// // Four requests, one row each.
    /// let batch = tasks.select(&[2, 0, 0, 1])?;
    /// assert_eq!(batch.num_sets(), Some(4));
    /// let ys = batch.forward(&Tensor::ones((4, 4), DType::F32, &Device::Cpu)?)?;
    /// assert_eq!(ys.get(1)?.to_vec1::<f32>()?, ys.get(2)?.to_vec1::<f32>()?);
    /// assert_ne!(ys.get(0)?.to_vec1::<f32>()?, ys.get(1)?.to_vec1::<f32>()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// No numbers, or one that is not less than the number of sets.
    pub fn select(&self, sets: &[usize]) -> Result<Self> {
        let held = self.sets.unwrap_or(1);
        if sets.is_empty() {
            crate::error::bail!(
                shape,
                "no sets of {} to select: expected at least one number",
                self.plan.name
            );
        }
        if let Some(index) = sets.iter().find(|index| **index >= held) {
            crate::error::bail!(
                shape,
                "there is no set {index} of {} to select, expected one of {held}",
                self.plan.name
            );
        }
        let ids: Vec<_> = sets.iter().map(|index| *index as u32).collect();
        let ids = Tensor::new(ids, self.device())?;
        let tensors = self.in_sets().map(|tensor| tensor?.contiguous()?.index_select(&ids, 0));
        let kept = self.kept.select(sets)?;
        Ok(self.with_tensors(tensors.collect::<Result<_>>()?, Some(sets.len()), kept))
    }

    /// All tensors as `[sets, dims…]`; one set that serves every row is one set.
    pub(super) fn in_sets(&self) -> impl Iterator<Item = Result<Tensor>> {
        self.collected().map(|tensor| match self.sets {
            Some(_) => tensor,
            None => tensor?.unsqueeze(0),
        })
    }

    /// The sets of each tensor, to be cut out one by one. They are kept, so that the gradients of all
    /// that is cut out meet.
    fn by_set(&self) -> Result<&[Unstack]> {
        if let Some(by_set) = self.by_set.get() {
            return Ok(by_set);
        }
        let by_set = self.collected().map(|tensor| Unstack::new(&tensor?));
        let by_set = by_set.collect::<Result<Vec<_>>>()?;
        Ok(self.by_set.get_or_init(|| by_set))
    }

    /// Every set by itself, for one pass through the target.
    pub(super) fn each_set(&self, sets: usize) -> Result<Vec<Self>> {
        let mut each = Vec::with_capacity(sets);
        for set in 0..sets {
            each.push(self.with_tensors(Vec::new(), None, self.kept.set(set)?));
        }
        for tensor in self.collected() {
            for (params, tensor) in each.iter_mut().zip(unstack(&tensor?)?) {
                params.params.push(tensor.into());
            }
        }
        Ok(each)
    }

    /// The layer that makes sets take their turns, where there is one; its name is empty where the whole
    /// target does.
    pub(super) fn one_set_layer(&self) -> Option<&str> {
        self.plan.layout.one_set_layer()
    }
}

impl Kept {
    /// What is kept, with the running statistics of one set.
    fn set(&self, index: usize) -> Result<Self> {
        if self.buffer_sets.is_none() {
            return Ok(self.clone());
        }
        let of_set = |buffer: &Tensor| variable(&buffer.detach().get(index)?);
        let buffers = self.buffers.iter().map(of_set).collect::<Result<_>>()?;
        Ok(Self { buffers, buffer_sets: None, ..self.clone() })
    }

    /// What is kept, with the running statistics of several sets, in this order.
    fn select(&self, sets: &[usize]) -> Result<Self> {
        if self.buffer_sets.is_none() {
            return Ok(self.clone());
        }
        let of_sets = |buffer: &Tensor| {
            let each = sets.iter().map(|index| buffer.detach().get(*index));
            variable(&Tensor::stack(&each.collect::<Result<Vec<_>>>()?, 0)?)
        };
        let buffers = self.buffers.iter().map(of_sets).collect::<Result<_>>()?;
        Ok(Self { buffers, buffer_sets: Some(sets.len()), ..self.clone() })
    }
}

/// A copy that training can move.
pub(super) fn variable(statistics: &Tensor) -> Result<Tensor> {
    Ok(Var::from_tensor(statistics)?.into_inner())
}
