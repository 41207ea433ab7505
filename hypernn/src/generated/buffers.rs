//! Running statistics for each weight set by itself.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::GeneratedParams;
use crate::init::computed;
use crate::memory::ensure_room;
use crate::structure::layout::Layout;

/// Running statistics of several weight sets, `[G, features]` each: those of each set are its own.
///
/// A hypernetwork keeps one set of running statistics, which all weight sets follow and which its
/// checkpoints hold. Where tasks see data of different kinds, each may have its own: such buffers are
/// variables of a `VarMap` of their own, which also saves them.
///
/// ```
/// use candle_core::{DType, Device, ModuleT, Result, Tensor};
/// use hypernn::nn::{BatchNorm, Linear, Module, VarBuilder, VarMap};
/// use hypernn::{HyperTarget, hypernetwork};
///
/// #[derive(HyperTarget)]
/// struct Net {
///     #[hyper(linear(4, 8))]
///     hidden: Linear,
///     #[hyper(batch_norm(8))]
///     norm: BatchNorm,
/// }
///
/// impl ModuleT for Net {
///     fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
///         self.norm.forward_t(&self.hidden.forward(xs)?, train)
///     }
/// }
///
/// hypernetwork! {
///     struct HyperNet for Net { embedding: tasks(3, 14, 4), generator: linear, mode: dynamic }
/// }
///
/// # fn main() -> Result<()> {
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let hyper = HyperNet::new(vb)?;
/// let statistics = VarMap::new();
/// let vb = VarBuilder::from_varmap(&statistics, DType::F32, &Device::Cpu);
/// let buffers = hyper.buffers(3, vb)?;
///
/// // Three tasks with two rows each.
/// let params = hyper.generate_params(&Tensor::new(&[0u32, 1, 2], &Device::Cpu)?)?;
/// let params = params.with_buffers(&buffers)?;
/// let xs = Tensor::randn(0f32, 1., (6, 4), &Device::Cpu)?;
/// params.forward_t(&xs, true)?;
/// let (name, means) = buffers.named().next().unwrap();
/// assert_eq!((name, means.dims()), ("norm.running_mean", &[3, 8][..]));
/// assert_ne!(means.get(0)?.to_vec1::<f32>()?, means.get(1)?.to_vec1::<f32>()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Buffers {
    names: Arc<[String]>,
    tensors: Arc<[Tensor]>,
    sets: usize,
}

impl Buffers {
    /// Makes running statistics `[sets, dims…]` as variables below `vb`; each set starts as `shared`, `[dims…]`,
    /// which all sets have had so far.
    ///
    /// # Errors
    /// No sets, or the builder's own.
    pub(crate) fn new(
        layout: &Layout,
        shared: &[Tensor],
        sets: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        if sets == 0 {
            crate::error::bail!(shape, "buffers of 0 weight sets, expected at least 1");
        }
        let names = layout.buffers().iter().map(|buffer| buffer.name.clone()).collect();
        let tensors = layout.buffers().iter().zip(shared).map(|(buffer, shared)| {
            let dims = [&[sets], buffer.shape.dims()].concat();
            let name = || format!("buffer `{}`", buffer.name);
            ensure_room(name, &dims, vb.dtype(), vb.device())?;
            let start = |_: &Tensor| shared.detach().broadcast_as(&*dims)?.contiguous();
            computed(vb, &dims, &buffer.name, buffer.init, start)
        });
        Ok(Self { names, tensors: tensors.collect::<Result<_>>()?, sets })
    }

    /// The name and tensor of each, `[G, dims…]`.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.names.iter().map(String::as_str).zip(self.tensors.iter())
    }
}

impl<T> GeneratedParams<T> {
    /// These parameters, with running statistics for each weight set by itself.
    ///
    /// # Errors
    /// There are not as many sets of buffers as of parameters, they are another target's, or a layer takes
    /// one set at a time.
    pub fn with_buffers(&self, buffers: &Buffers) -> Result<Self> {
        let name = self.plan.name;
        if let Some(layer) = self.one_set_layer() {
            crate::error::bail!(
                declaration,
                "layer `{layer}` of {name} computes with one set of weights at a time, so statistics of {} sets can't be kept: take the layer from `hypernn::nn`",
                buffers.sets
            );
        }
        if self.sets != Some(buffers.sets) {
            let found = self.sets.map_or("one for every row".to_owned(), |sets| sets.to_string());
            crate::error::bail!(
                shape,
                "buffers of {} weight sets for parameters of {name}, of which there are {found}: expected as many",
                buffers.sets
            );
        }
        let expected = self.layout().buffers().iter().map(|buffer| &buffer.name);
        if !expected.eq(buffers.names.iter()) {
            crate::error::bail!(layout, "these are not the buffers of {name}: {:?}", buffers.names);
        }
        let mut with = self.clone();
        with.kept.buffers = buffers.tensors.clone();
        with.kept.buffer_sets = Some(buffers.sets);
        Ok(with)
    }
}
