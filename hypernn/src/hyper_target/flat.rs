//! Plans of declared targets, and their parameters as a flat vector and from one.

use std::any::TypeId;
use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::HyperTarget;
use super::layout_cache::recorded;
use crate::check::ensure_same_device;
use crate::generated::{DeclaredTarget, GeneratedParams, TargetPlan, flatten};
use crate::structure::layout::{Layout, Location};
use crate::structure::source::ParamSource;

/// How a target is built for a configuration.
fn declared<T: HyperTarget>(config: &T::Config) -> DeclaredTarget<T> {
    let (config, of_network) = (config.clone(), config.clone());
    let build = move |source: &mut dyn ParamSource| T::build_by_sets(&config, source);
    let network = move || T::network(&of_network);
    let of_type_alone = TypeId::of::<T::Config>() == TypeId::of::<()>();
    DeclaredTarget {
        name: T::NAME,
        build: Box::new(build),
        network: Box::new(network),
        of_type_alone,
    }
}

impl<T: HyperTarget> TargetPlan<T> {
    /// The plan for a configuration.
    ///
    /// # Errors
    /// An invalid size, or two tensors of one name.
    pub fn new(config: &T::Config) -> Result<Self> {
        Self::declared(declared(config))
    }

    /// The parameters of a network of this plan's configuration as one flat vector `[P]`, or `[G, P]` where it holds `G`
    /// sets; gradients flow back into them.
    ///
    /// ```
    /// use candle_core::{DType, Device, Result, Tensor};
    /// use hypernn::generated::TargetPlan;
    /// use hypernn::nn::Linear;
    /// use hypernn::{GeneratedParams, HyperTarget};
    ///
    /// #[derive(HyperTarget)]
    /// #[hyper(config = usize, sequential)]
    /// struct Net {
    ///     #[hyper(linear(*config, 2))]
    ///     fc: Linear,
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let plan = TargetPlan::<Net>::new(&3)?;
    /// let flat = Tensor::arange(0f32, plan.num_params() as f32, &Device::Cpu)?;
    /// let net = GeneratedParams::<Net>::from_flat(&3, &flat)?.unpack()?;
    /// assert_eq!(plan.pack(&net)?.to_vec1::<f32>()?, flat.to_vec1::<f32>()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A layer does not give access to its tensors, they differ in dtype or device, or the network has other tensors
    /// than the plan.
    pub fn pack(&self, net: &T) -> Result<Tensor> {
        pack(net, self.layout())
    }
}

impl<T: HyperTarget> GeneratedParams<T> {
    /// Takes a flat vector `[P]`, or `G` sets `[G, P]`, as it is. Where the target has a configuration, its layout is
    /// recorded in each call: a plan that is made once, `TargetPlan::new(&config)`, takes any number of vectors by
    /// [`params_from_flat`](TargetPlan::params_from_flat).
    ///
    /// # Errors
    /// The vector's length, rank or dtype is not the target's.
    pub fn from_flat(config: &T::Config, flat: &Tensor) -> Result<Self> {
        let record = recorded::<T>(config)?;
        let plan = Arc::new(TargetPlan::of_flat(declared(config), &record));
        Self::from_flat_and_kept(plan, flat, record.kept.clone())
    }
}

/// The generated parameters of a network as one flat vector.
pub(super) fn pack<T: HyperTarget>(net: &T, layout: &Layout) -> Result<Tensor> {
    let (mut tensors, mut found) = (Vec::with_capacity(layout.params().len()), 0);
    net.visit(&mut |_name, tensor| {
        let place = layout.places().get(found).map(|(_, place)| *place);
        if place == Some(Location::Generated(tensors.len())) {
            tensors.push(tensor.clone());
        }
        found += 1;
        Ok(())
    })?;
    let expected = layout.places().len();
    if found != expected {
        crate::error::bail!(
            declaration,
            "{} has {found} tensors, but its layout {expected}",
            T::NAME
        );
    }
    let Some((param, first)) = layout.params().iter().zip(&tensors).next() else {
        crate::error::bail!(
            declaration,
            "target {} has no parameters, so there is nothing to pack",
            T::NAME
        );
    };
    let alike = |tensor: &Tensor| {
        tensor.dtype() == first.dtype() && tensor.device().same_device(first.device())
    };
    let others = layout.params().iter().zip(&tensors).filter(|(_, tensor)| !alike(tensor));
    for (other, tensor) in others {
        ensure_same_device(
            &format!("`{}` of {}", other.name, T::NAME),
            tensor.device().location(),
            &format!("`{}`", param.name),
            first.device().location(),
        )?;
        if tensor.dtype() != first.dtype() {
            let (found, expected) = (tensor.dtype(), first.dtype());
            crate::error::bail!(
                dtype,
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
