//! Parameters that were generated apart, put together as sets of one batch.

use std::borrow::Borrow;
use std::sync::Arc;

use candle_core::{DType, Result, Storage, Tensor};

use super::select_sets::variable;
use super::{GeneratedParams, Kept, TargetPlan};
use crate::check::ensure_same_device;
use crate::ops::split::Watch;
use crate::param::{KeptTensor, Param};
use crate::structure::layout::Layout;

impl<T> GeneratedParams<T> {
    /// The sets of all of these, one after the other, as copies: parameters that serve every row count
    /// as one set. So the adapters of several requests, each generated or loaded by itself, serve one
    /// batch, whose rows are shared out among them in order.
    ///
    /// Gradients flow back to each. Tensors that are not generated, trained and frozen ones, are those
    /// of the first; running statistics that differ become those of each set by itself, as copies.
    ///
    /// ```
    /// use candle_core::{DType, Device, Result, Tensor};
    /// use hypernn::nn::{Linear, VarBuilder, VarMap};
    /// use hypernn::{GeneratedParams, HyperTarget, hypernetwork};
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
    /// let adapter = |task: u32| -> Result<_> {
    ///     Ok(hyper.generate_params(&Tensor::new(task, &Device::Cpu)?)?.detach())
    /// };
    /// let (first, second) = (adapter(0)?, adapter(1)?);
    /// let batch = GeneratedParams::stack(&[&second, &first, &second])?;
    /// assert_eq!(batch.num_sets(), Some(3));
    /// let xs = Tensor::ones((3, 4), DType::F32, &Device::Cpu)?;
    /// let ys = batch.forward(&xs)?;
    /// assert_eq!(
    ///     ys.narrow(0, 1, 1)?.to_vec2::<f32>()?,
    ///     first.forward(&xs.narrow(0, 1, 1)?)?.to_vec2::<f32>()?
    /// );
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// None at all; or parameters of different networks or roles, of another dtype, on another device,
    /// or over other trained or frozen tensors: the first difference is named.
    pub fn stack<P: Borrow<Self>>(params: &[P]) -> Result<Self> {
        let params: Vec<&Self> = params.iter().map(Borrow::borrow).collect();
        let Some((first, others)) = params.split_first() else {
            crate::error::bail!(shape, "no parameters to stack: expected at least one set");
        };
        for (number, other) in (1..).zip(others) {
            first.ensure_alike(other).map_err(|err| {
                let words = |err: &str| format!("can't stack parameters 0 and {number}: {err}");
                crate::error::reworded(&err, words)
            })?;
        }
        let mut tensors = vec![Vec::with_capacity(params.len()); first.params.len()];
        for one in &params {
            for (sets, tensor) in tensors.iter_mut().zip(one.in_sets()) {
                sets.push(tensor?);
            }
        }
        let tensors = tensors.iter().map(|sets| Tensor::cat(sets, 0)).collect::<Result<_>>()?;
        let sets = params.iter().map(|one| one.count()).sum();
        let stacked = first.with_tensors(tensors, Some(sets), stacked_kept(&params, sets)?);
        Ok(Self { watches: watches(&params), ..stacked })
    }

    /// The number of sets, with one that serves every row as one.
    fn count(&self) -> usize {
        self.sets.unwrap_or(1)
    }

    fn ensure_alike(&self, other: &Self) -> Result<()> {
        ensure_same_layout(self.layout(), other.layout())?;
        self.plan.ensure_same(&other.plan)?;
        let dtype = |params: &Self| params.params.first().map_or(DType::F32, Param::dtype);
        if dtype(self) != dtype(other) {
            crate::error::bail!(dtype, "their dtypes are {:?} and {:?}", dtype(self), dtype(other));
        }
        ensure_same_device(
            "the second",
            other.device().location(),
            "the first",
            self.device().location(),
        )?;
        self.kept.ensure_same(&other.kept, &self.plan)
    }
}

fn ensure_same_layout(first: &Layout, second: &Layout) -> Result<()> {
    let Some((first, second)) = first.difference(second) else { return Ok(()) };
    let message = format!("the first difference in layout is `{first}`, `{second}`");
    Err(crate::error::difference(message, &first, &second))
}

impl<T> TargetPlan<T> {
    /// Parameters of one mean the same in the other.
    fn ensure_same(self: &Arc<Self>, other: &Arc<Self>) -> Result<()> {
        // What a configuration or a constructor says beside sizes is known to nobody.
        let of_type_alone = self.model.is_of_type_alone() && other.model.is_of_type_alone();
        if !(of_type_alone || Arc::ptr_eq(self, other)) {
            crate::error::bail!(
                layout,
                "they are of two networks over {}, each with a configuration or constructor of its own: `save` those of one, and `load_params` them by the other",
                self.name
            );
        }
        Ok(())
    }
}

impl Kept {
    /// Whether both have the same tensors that are not generated.
    fn ensure_same<T>(&self, other: &Self, plan: &TargetPlan<T>) -> Result<()> {
        if self.params.len() != other.params.len() {
            crate::error::bail!(
                layout,
                "one of them was made without the tensors that its network keeps"
            );
        }
        let params = self.params.iter().zip(&*other.params);
        let params = plan.layout.kept().iter().map(|kept| &kept.name).zip(params);
        for (name, (first, second)) in params {
            if !same_kept(first, second)? {
                return Err(other_values(name));
            }
        }
        let values = plan.values.names.iter().zip(self.values.iter().zip(&*other.values));
        for (name, (first, second)) in values {
            if !same(first, second)? {
                return Err(other_values(name));
            }
        }
        Ok(())
    }

    /// Running statistics that all of these share.
    fn shares_buffers(&self, other: &Self) -> Result<bool> {
        if self.buffer_sets.is_some() || other.buffer_sets.is_some() {
            return Ok(false);
        }
        let mut pairs = self.buffers.iter().zip(&*other.buffers);
        pairs.try_fold(true, |all, (first, second)| Ok(all && same_storage(first, second)))
    }
}

/// The kept tensors of the first, and running statistics of each set where they are not the same.
fn stacked_kept<T>(params: &[&GeneratedParams<T>], sets: usize) -> Result<Kept> {
    let kept = &params[0].kept;
    let mut shared = true;
    for other in params {
        shared &= kept.shares_buffers(&other.kept)?;
    }
    if shared {
        return Ok(kept.clone());
    }
    let of_sets = |index: usize| {
        let each = params.iter().map(|one| one.kept.buffer_in_sets(index, one.count()));
        variable(&Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 0)?)
    };
    let buffers = (0..kept.buffers.len()).map(of_sets).collect::<Result<_>>()?;
    Ok(Kept { buffers, buffer_sets: Some(sets), ..kept.clone() })
}

impl Kept {
    /// Running statistics as `[sets, dims…]`.
    fn buffer_in_sets(&self, index: usize, sets: usize) -> Result<Tensor> {
        let buffer = self.buffers[index].detach();
        if self.buffer_sets.is_some() {
            return Ok(buffer);
        }
        buffer.broadcast_as([&[sets], buffer.dims()].concat())?.contiguous()
    }
}

/// The watches of all parameters, each once.
fn watches<T>(params: &[&GeneratedParams<T>]) -> Arc<[Watch]> {
    let mut all: Vec<Watch> = Vec::new();
    for watch in params.iter().flat_map(|one| &*one.watches) {
        if !all.iter().any(|other| other.is(watch)) {
            all.push(watch.clone());
        }
    }
    all.into()
}

/// Equal in every value; a look at where they lie is enough as a rule.
pub(crate) fn same(first: &Tensor, second: &Tensor) -> Result<bool> {
    if same_storage(first, second) {
        return Ok(true);
    }
    let kind = |tensor: &Tensor| (tensor.dims().to_vec(), tensor.dtype());
    if kind(first) != kind(second) || !first.device().same_device(second.device()) {
        return Ok(false);
    }
    let different = first.detach().ne(&second.detach())?.to_dtype(DType::U32)?.sum_all()?;
    Ok(different.to_scalar::<u32>()? == 0)
}

fn other_values(name: &str) -> candle_core::Error {
    let what = format!("they lie over other values of `{name}`, which is not generated");
    crate::error::layout(what)
}

fn same_kept(first: &KeptTensor, second: &KeptTensor) -> Result<bool> {
    match (first, second) {
        (KeptTensor::Quantized(first), KeptTensor::Quantized(second)) if first.is(second) => {
            Ok(first.dtype() == second.dtype())
        }
        _ => same(&first.dense()?, &second.dense()?),
    }
}

/// Whether both tensors are the same view of one storage.
fn same_storage(first: &Tensor, second: &Tensor) -> bool {
    let place = |tensor: &Tensor| {
        let (storage, layout) = tensor.storage_and_layout();
        (std::ptr::from_ref::<Storage>(&storage), layout.clone())
    };
    let ((first, first_layout), (second, second_layout)) = (place(first), place(second));
    first == second
        && first_layout.start_offset() == second_layout.start_offset()
        && first_layout.shape() == second_layout.shape()
        && first_layout.stride() == second_layout.stride()
}
