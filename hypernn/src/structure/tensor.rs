//! A bare tensor as a parameter of a target.

use candle_core::{Result, Tensor};
use candle_nn::Init;

use super::layer::{HyperLayer, Parameters, Visitor};
use super::source::{ParamKind, ParamSource, ParamSpec};
use crate::check::Problem;
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;

/// A bare tensor of rank `R`: `#[hyper(tensor([rows, columns]))]`.
///
/// It starts as standard normal numbers, unless told otherwise:
/// `#[hyper(tensor([8], init = Init::Const(1.)))]`.
///
/// What a forward does with a bare tensor nobody else knows. With several sets of generated parameters
/// a target that has one is therefore applied to one set after the other, and the field holds `[dims…]`
/// in each. A forward that takes all sets at once, `[G, dims…]`, each for its own run of consecutive
/// rows, says so: `#[hyper(tensor([8], sets = true))]`.
///
/// ```
/// use candle_core::{DType, Device, Module, Result, Tensor};
/// use hypernn::nn::{Linear, VarBuilder, VarMap};
/// use hypernn::{HyperTarget, hypernetwork};
///
/// #[derive(HyperTarget)]
/// struct Net {
///     #[hyper(linear(4, 8))]
///     fc: Linear,
///     #[hyper(tensor([8], sets = true))]
///     scale: Tensor,
/// }
///
/// impl Module for Net {
///     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
///         let ys = self.fc.forward(xs)?;
///         // `[8]`, or `[G, 8]`: then G runs of rows, each with its own scale.
///         let sets = if self.scale.rank() > 1 { self.scale.dim(0)? } else { 1 };
///         let by_set = ys.reshape((sets, (), 8))?;
///         by_set.broadcast_mul(&self.scale.reshape((sets, 1, 8))?)?.reshape(ys.shape())
///     }
/// }
///
/// hypernetwork! {
///     struct HyperNet for Net { embedding: tasks(3, 8, 4), generator: linear, mode: dynamic }
/// }
///
/// # fn main() -> Result<()> {
/// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
/// let params = hyper.generate_params(&Tensor::new(&[0u32, 1, 2], &Device::Cpu)?)?;
/// let xs = Tensor::ones((6, 4), DType::F32, &Device::Cpu)?;
/// let ys = params.forward(&xs)?;
/// let of_the_last = params.set(2)?.forward(&xs.narrow(0, 4, 2)?)?;
/// let difference = (ys.narrow(0, 4, 2)? - of_the_last)?.abs()?.max_all()?;
/// assert!(difference.to_scalar::<f32>()? < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TensorSpec<const R: usize> {
    dims: [usize; R],
    init: Init,
    sets: bool,
}

/// `#[hyper(tensor([rows, columns]))]`.
pub const fn tensor<const R: usize>(dims: [usize; R]) -> TensorSpec<R> {
    TensorSpec { dims, init: Init::Randn { mean: 0., stdev: 1. }, sets: false }
}

impl<const R: usize> TensorSpec<R> {
    /// How it starts.
    #[must_use]
    pub const fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// Whether the target's forward takes the tensors of all sets at once, `[G, dims…]`.
    #[must_use]
    pub const fn sets(mut self, sets: bool) -> Self {
        self.sets = sets;
        self
    }

    /// The tensor, and what is wrong with its shape, if anything.
    pub const fn info(&self) -> LayerInfo {
        let info = LayerInfo::new("tensor").tensor("", &self.dims);
        if info.num_params > 0 {
            return info;
        }
        info.checked(Some(Problem::new("tensor: a dimension is 0, expected at least 1")))
    }

    /// The number of dimensions.
    pub const fn rank(&self) -> usize {
        R
    }

    /// The shape: that of each sample where a step takes the tensor as one of several values.
    pub const fn shape(&self) -> SampleShape {
        SampleShape::new(&self.dims)
    }

    /// Any shape; a tensor is no step of a chain.
    pub const fn gives(&self, _: &SampleShape) -> Given {
        Given::Shape(SampleShape::ANY)
    }
}

impl<const R: usize> HyperLayer<TensorSpec<R>> for Tensor {
    // The spec tells.
    const TAKES_SETS: bool = true;

    fn build(spec: &TensorSpec<R>, source: &mut dyn ParamSource) -> Result<Self> {
        crate::check::ensure(spec.info().problem)?;
        let kind = ParamKind::Tensor;
        source.bare(&ParamSpec { name: "", dims: &spec.dims, kind, init: spec.init }, spec.sets)
    }
}

impl Parameters for Tensor {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        visitor("", self)
    }
}
