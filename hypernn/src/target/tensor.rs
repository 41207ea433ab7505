//! A bare tensor as a parameter of a target.

use candle_core::{Result, Tensor};
use candle_nn::Init;

use super::adapter::AdapterSize;
use super::layer::{HyperLayer, Parameters, Visitor};
use super::source::{ParamKind, ParamSource, ParamSpec};
use crate::check::{Problem, product, too_many};
use crate::flow::{Given, SampleShape};

/// A bare tensor of rank `R`: `#[hyper(tensor([rows, columns]))]`.
///
/// It starts as standard normal numbers, unless told otherwise:
/// `#[hyper(tensor([8], init = Init::Const(1.)))]`. With several sets of generated parameters the
/// field holds `[G, dims…]`.
#[derive(Clone, Copy, Debug)]
pub struct TensorSpec<const R: usize> {
    dims: [usize; R],
    init: Init,
}

/// `#[hyper(tensor([rows, columns]))]`.
pub const fn tensor<const R: usize>(dims: [usize; R]) -> TensorSpec<R> {
    TensorSpec { dims, init: Init::Randn { mean: 0., stdev: 1. } }
}

impl<const R: usize> TensorSpec<R> {
    /// How it starts.
    #[must_use]
    pub const fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// The number of its values.
    pub const fn num_params(&self) -> usize {
        product(&self.dims)
    }

    /// The size of a low-rank adapter of it, where it is a matrix or a kernel; else one without values.
    pub const fn adapter(&self, rank: usize) -> AdapterSize {
        if R < 2 {
            return AdapterSize::of_matrix(rank, 0, 0);
        }
        AdapterSize::of_kernel(rank, self.dims[0], self.num_params())
    }

    /// What is wrong with the shape, if anything.
    pub const fn check(&self) -> Option<Problem> {
        if self.num_params() > 0 {
            return too_many("tensor", &self.dims);
        }
        Some(Problem::new("tensor: a dimension is 0, expected at least 1"))
    }

    /// Any shape; a tensor is no step of a chain.
    pub const fn takes(&self) -> SampleShape {
        SampleShape::ANY
    }

    /// Any shape.
    pub const fn gives(&self, _: &SampleShape) -> Given {
        Given::Shape(SampleShape::ANY)
    }
}

impl<const R: usize> HyperLayer<TensorSpec<R>> for Tensor {
    const TAKES_SETS: bool = true;

    fn build(spec: &TensorSpec<R>, source: &mut dyn ParamSource) -> Result<Self> {
        crate::check::ensure(spec.check())?;
        source.param(&ParamSpec {
            name: "",
            dims: &spec.dims,
            kind: ParamKind::Tensor,
            init: spec.init,
        })
    }
}

impl Parameters for Tensor {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        visitor("", self)
    }
}
