//! Sets that become one: adapters concatenated along their rank, and means.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::GeneratedParams;
use crate::error::bail;
use crate::ops::padded::padded_groups;
use crate::structure::source::ParamKind;

impl<T> GeneratedParams<T> {
    /// The low-rank adapters of all sets as one, which serves every row: factors are concatenated along their rank, so
    /// that the difference is the sum of the sets' differences, `scale × Σ up_g · down_g`, without rounding. `G`
    /// adapters of rank `r` become one of rank `G r`.
    ///
    /// So the adapters of a long document's chunks become that of the document (Charakorn et al., *Doc-to-LoRA: Learning
    /// to Instantly Internalize Contexts*, 2026). Gradients flow back to each set.
    ///
    /// ```
    /// use candle_core::{DType, Device, Result, Tensor};
    /// use hypernn::nn::{Linear, VarBuilder, VarMap};
    /// use hypernn::{HyperTarget, hypernetwork};
    ///
    /// #[derive(HyperTarget)]
    /// #[hyper(sequential)]
    /// struct Net {
    ///     #[hyper(linear(4, 6))]
    ///     fc: Linear,
    /// }
    ///
    /// hypernetwork! {
    ///     /// An adapter for a document, whose tokens are vectors of width 8.
    ///     struct HyperNet for Net {
    ///         roles: [("*.weight", lora(2, 4.)), ("*", freeze)],
    ///         embedding: perceiver(8, 2, 16, 1, 2),
    ///         generator: per_module(8, [16], gelu),
    ///         mode: dynamic,
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let pretrained = VarMap::new();
    /// Net::new(VarBuilder::from_varmap(&pretrained, DType::F32, &Device::Cpu))?;
    /// let base = VarBuilder::from_varmap(&pretrained, DType::F32, &Device::Cpu);
    /// let hyper = HyperNet::new_from(
    ///     VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu),
    ///     base,
    /// )?;
    /// // A document of 300 tokens in three chunks, one adapter of rank 2 each.
    /// let chunks = Tensor::randn(0f32, 1., (3, 100, 8), &Device::Cpu)?;
    /// let params = hyper.generate_params(&chunks)?.concat_rank()?;
    /// assert_eq!(params.num_sets(), None);
    /// let ranks: Vec<_> = params.tensors().map(|(_, tensor)| tensor.dims().to_vec()).collect();
    /// assert_eq!(ranks, [[6, 4], [6, 6]]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Something is generated that is no factor of an adapter, or each set has running statistics of its own.
    pub fn concat_rank(&self) -> Result<Self> {
        self.concat_rank_by(&[self.held()])?.of_only_set()
    }

    /// [`concat_rank`](Self::concat_rank) of groups of consecutive sets, one set for each: `[3, 2]` makes two sets of
    /// five, for two documents of three and two chunks. Where a group has fewer sets than the largest, the rest of its
    /// rank is zero, which adds nothing.
    ///
    /// # Errors
    /// Those of [`concat_rank`](Self::concat_rank), no groups, an empty one, or groups that are not all of the sets.
    pub fn concat_rank_by(&self, groups: &[usize]) -> Result<Self> {
        self.check_groups(groups)?;
        let largest = groups.iter().copied().max().unwrap_or(1);
        let layout = self.layout().with_ranks(largest)?;
        let kinds = self.layout().params().iter().map(|param| param.kind);
        let joined = self.in_sets().zip(kinds).map(|(tensor, kind)| {
            let grouped = grouped(&tensor?, groups, largest)?;
            match kind {
                ParamKind::Up => grouped.transpose(1, 2)?.contiguous()?.flatten(2, 3),
                _ => grouped.flatten(1, 2),
            }
        });
        let joined = joined.collect::<Result<_>>()?;
        let made = self.with_tensors(joined, Some(groups.len()), self.kept.clone());
        Ok(Self { ranked: Some(Arc::new(layout)), ..made })
    }

    /// The mean of all sets, tensor by tensor, as one set, which serves every row. Gradients flow back to each set.
    ///
    /// That of adapters is the mean of their factors, an adapter of the same rank. It is not the mean of their
    /// differences, for which [`concat_rank`](Self::concat_rank) has room.
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
    /// let tasks = hyper.generate_params(&Tensor::new(&[0u32, 1, 2], &Device::Cpu)?)?;
    /// let mean = tasks.mean()?;
    /// assert_eq!(mean.num_sets(), None);
    /// let difference = (mean.flat()? - tasks.flat()?.mean(0)?)?.abs()?.max_all()?;
    /// assert!(difference.to_scalar::<f32>()? < 1e-6);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Each set has running statistics of its own.
    pub fn mean(&self) -> Result<Self> {
        self.mean_by(&[self.held()])?.of_only_set()
    }

    /// [`mean`](Self::mean) of groups of consecutive sets, one set for each: `[3, 2]` makes two sets of five.
    ///
    /// # Errors
    /// Those of [`mean`](Self::mean), no groups, an empty one, or groups that are not all of the sets.
    pub fn mean_by(&self, groups: &[usize]) -> Result<Self> {
        self.check_groups(groups)?;
        let shares = shares(groups);
        let shares = Tensor::from_vec(shares, (groups.len(), self.held()), self.device())?;
        let shares = shares.to_dtype(self.dtype())?;
        let means = self.in_sets().map(|tensor| {
            let tensor = tensor?;
            let mean = shares.matmul(&tensor.reshape((self.held(), ()))?)?;
            mean.reshape([&[groups.len()], &tensor.dims()[1..]].concat())
        });
        let means = means.collect::<Result<_>>()?;
        Ok(self.with_tensors(means, Some(groups.len()), self.kept.clone()))
    }

    /// The number of sets, one that serves every row included.
    fn held(&self) -> usize {
        self.sets.unwrap_or(1)
    }

    /// One set, as the set that serves every row.
    fn of_only_set(self) -> Result<Self> {
        let tensors = self.in_sets().map(|tensor| tensor?.squeeze(0));
        let tensors = tensors.collect::<Result<_>>()?;
        Ok(self.with_tensors(tensors, None, self.kept.clone()))
    }

    fn check_groups(&self, groups: &[usize]) -> Result<()> {
        if self.kept.buffer_sets.is_some() {
            bail!(
                shape,
                "each set of {} has running statistics of its own, which do not become one",
                self.plan.name
            );
        }
        if let Some(empty) = groups.iter().position(|count| *count == 0) {
            bail!(shape, "group {empty} of sets of {} is empty", self.plan.name);
        }
        let (sum, held) =
            (groups.iter().fold(0, |sum: usize, n| sum.saturating_add(*n)), self.held());
        if sum != held {
            bail!(
                shape,
                "groups of {groups:?} sets of {} are {sum}, but there are {held}",
                self.plan.name
            );
        }
        Ok(())
    }
}

/// Sets `[G, a, b]` by group, `[groups, largest, a, b]`, with zeros where a group has fewer.
fn grouped(sets: &Tensor, groups: &[usize], largest: usize) -> Result<Tensor> {
    let (held, rows, columns) = sets.dims3()?;
    let shape = (groups.len(), largest, rows, columns);
    if groups.iter().all(|count| *count == largest) {
        return sets.reshape(shape);
    }
    let mut next = 0;
    let places = groups.iter().map(|count| {
        let first = next;
        next += count;
        (first..next).collect()
    });
    let places: Vec<_> = places.collect();
    padded_groups(&sets.reshape((held, rows * columns))?, &places)?.reshape(shape)
}

/// The part of each set in the mean of each group, one group after the other.
fn shares(groups: &[usize]) -> Vec<f64> {
    let held: usize = groups.iter().sum();
    let mut shares = vec![0.; groups.len() * held];
    let mut next = 0;
    for (group, count) in groups.iter().enumerate() {
        let start = group * held + next;
        shares[start..start + count].fill(1. / *count as f64);
        next += count;
    }
    shares
}
