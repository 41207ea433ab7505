//! Group normalisation.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::affine::Affine;
use super::norm;
use crate::check::Problem;
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::param::{Param, sets};
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::{ParamSource, VarBuilderSource};

/// What a group norm is made of: `group_norm(num_groups, num_channels, eps)` in an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormSpec {
    num_groups: usize,
    num_channels: usize,
    eps: f64,
}

impl GroupNormSpec {
    /// The layer's tensors, what it takes for one sample, and what is wrong with its sizes, if anything.
    pub const fn info(&self) -> LayerInfo {
        let channels = self.num_channels;
        LayerInfo::new("group_norm")
            .size("num_groups", self.num_groups)
            .size("num_channels", channels)
            .checked(groups(self.num_groups, channels))
            .takes(SampleShape::first(&[Some(channels), None]))
            .tensor("weight", &[channels])
            .tensor("bias", &[channels])
            .checked(norm::eps("group_norm", self.eps))
    }

    /// The shape of the output of one sample: that of the input.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(*input)
    }

    /// Asks the source for weight and bias, which start at 1 and 0.
    fn params(&self, source: &mut dyn ParamSource) -> Result<Affine> {
        crate::check::ensure(self.info().problem)?;
        let Self { num_groups, eps, .. } = self;
        source.describe(&format_args!("group_norm, groups {num_groups}, eps {eps}"));
        Affine::of_norm(source, self.num_channels, true)
    }
}

const fn groups(num_groups: usize, num_channels: usize) -> Option<Problem> {
    if num_channels.is_multiple_of(num_groups) {
        return None;
    }
    let problem = Problem::new("group_norm: num_groups ").number(num_groups);
    Some(problem.text(" does not divide num_channels ").number(num_channels))
}

/// The attribute's constructors.
pub mod spec {
    use super::GroupNormSpec;

    /// `#[hyper(group_norm(num_groups, num_channels, eps))]`.
    pub const fn group_norm(num_groups: usize, num_channels: usize, eps: f64) -> GroupNormSpec {
        GroupNormSpec { num_groups, num_channels, eps }
    }
}

/// Normalisation over groups of channels, as `candle_nn::GroupNorm`.
///
/// `weight` and `bias` are `[channels]`, or `[G, channels]` for `G` sets.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use hypernn::nn::{GroupNorm, Module};
///
/// # fn main() -> candle_core::Result<()> {
/// let weight = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// let layer = GroupNorm::new(weight, Tensor::new(&[0f32, 5.], &Device::Cpu)?, 2, 2, 0.)?;
/// let ys = layer.forward(&Tensor::new(&[[[-3f32, 3.], [-4., 4.]]], &Device::Cpu)?)?;
/// assert_eq!(ys.to_vec3::<f32>()?, [[[-1., 1.], [3., 7.]]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct GroupNorm {
    params: Affine,
    eps: f64,
    num_channels: usize,
    num_groups: usize,
}

impl GroupNorm {
    /// A layer over existing tensors.
    ///
    /// # Errors
    /// The groups do not divide the channels.
    pub fn new(
        weight: Tensor,
        bias: Tensor,
        num_channels: usize,
        num_groups: usize,
        eps: f64,
    ) -> Result<Self> {
        crate::check::ensure(spec::group_norm(num_groups, num_channels, eps).info().problem)?;
        Ok(Self { params: Affine::new(weight, Some(bias)), eps, num_channels, num_groups })
    }

    fn check_input(&self, xs: &Tensor) -> Result<()> {
        if xs.rank() < 3 {
            crate::error::bail!(
                shape,
                "group_norm: the input has shape {:?}, expected at least 3 dimensions",
                xs.dims()
            );
        }
        if xs.dim(1)? != self.num_channels {
            crate::error::bail!(
                shape,
                "group_norm: the input has {} channels (shape {:?}), the layer takes {}",
                xs.dim(1)?,
                xs.dims(),
                self.num_channels
            );
        }
        Ok(())
    }
}

impl Module for GroupNorm {
    /// `[B, channels, …]` to the same.
    ///
    /// # Errors
    /// The input has less than 3 dimensions or another number of channels, or the batch is not a
    /// multiple of the number of sets.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.check_input(xs)?;
        let sets = self.params.sets("group_norm", 1)?;
        let batch = xs.dim(0)?;
        sets::rows_per_set("group_norm", batch, sets)?;
        let groups = batch * self.num_groups;
        let groups = xs.reshape((groups, xs.elem_count() / groups.max(1)))?;
        let ys = norm::standardise(&groups, true, self.eps)?;
        let params = self.params.spread(1, sets)?;
        norm::scale_channels("group_norm", &ys, &params, batch)?.reshape(xs.shape())
    }
}

impl HyperLayer<GroupNormSpec> for GroupNorm {
    const TAKES_SETS: bool = true;

    fn build(spec: &GroupNormSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let GroupNormSpec { num_groups, num_channels, eps } = *spec;
        Ok(Self { params: spec.params(source)?, eps, num_channels, num_groups })
    }
}

impl Parameters for GroupNorm {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.params.visit(visitor)
    }

    fn reused(&self, name: &str) -> Result<Option<Param>> {
        self.params.reused(name)
    }
}

impl HyperLayer<GroupNormSpec> for candle_nn::GroupNorm {
    fn build(spec: &GroupNormSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let (weight, Some(bias)) = spec.params(source)?.to_tensors()? else {
            candle_core::bail!("group_norm: the source gave no bias");
        };
        Self::new(weight, bias, spec.num_channels, spec.num_groups, spec.eps)
    }
}

impl Parameters for candle_nn::GroupNorm {
    fn visit(&self, _: &mut Visitor<'_>) -> Result<()> {
        candle_core::bail!(
            "candle_nn::GroupNorm gives no access to its tensors: use hypernn::nn::GroupNorm"
        )
    }
}

/// A group norm; variables `weight` and `bias`.
///
/// # Errors
/// The groups do not divide the channels, or the builder's tensors have another shape.
pub fn group_norm(
    num_groups: usize,
    num_channels: usize,
    eps: f64,
    vb: VarBuilder<'_>,
) -> Result<GroupNorm> {
    let spec = spec::group_norm(num_groups, num_channels, eps);
    GroupNorm::build(&spec, &mut VarBuilderSource::new(vb))
}
