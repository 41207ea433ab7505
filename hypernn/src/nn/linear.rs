//! The linear layer: `y = x wᵀ + b`.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::{affine, sets};
use crate::check::{Problem, first, zero};
use crate::flow::{Given, SampleShape};
use crate::ops::linear_into::linear_into;
use crate::ops::split::Sink;
use crate::target::adapter::Adapter;
use crate::target::layer::{HyperLayer, Parameters, Visitor};
use crate::target::source::{ParamSource, VarBuilderSource};

/// What a linear layer is made of: `linear(in_dim, out_dim)` in an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearSpec {
    in_dim: usize,
    out_dim: usize,
    bias: bool,
}

impl LinearSpec {
    /// The number of its parameters.
    pub const fn num_params(&self) -> usize {
        self.num_weights() + if self.bias { self.out_dim } else { 0 }
    }

    /// The number of values in `weight`.
    pub const fn num_weights(&self) -> usize {
        self.in_dim * self.out_dim
    }

    /// What is wrong with the sizes, if anything.
    pub const fn check(&self) -> Option<Problem> {
        first(&[zero("linear", "in_dim", self.in_dim), zero("linear", "out_dim", self.out_dim)])
    }

    /// A last dimension `in_dim`.
    pub const fn takes(&self) -> SampleShape {
        SampleShape::last(self.in_dim)
    }

    /// The same with a last dimension `out_dim`.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(input.with_last(self.out_dim))
    }

    /// The dimensions of weight and bias, and how `candle_nn::linear` initialises them.
    fn shapes(&self) -> Result<([usize; 2], Option<usize>, [Init; 2])> {
        crate::check::ensure(self.check())?;
        let bias = self.bias.then_some(self.out_dim);
        Ok(([self.out_dim, self.in_dim], bias, affine::init(self.in_dim)))
    }
}

/// The attribute's constructors.
pub mod spec {
    use super::LinearSpec;

    /// `#[hyper(linear(in_dim, out_dim))]`.
    pub const fn linear(in_dim: usize, out_dim: usize) -> LinearSpec {
        linear_b(in_dim, out_dim, true)
    }

    /// `#[hyper(linear_no_bias(in_dim, out_dim))]`.
    pub const fn linear_no_bias(in_dim: usize, out_dim: usize) -> LinearSpec {
        linear_b(in_dim, out_dim, false)
    }

    /// `#[hyper(linear_b(in_dim, out_dim, bias))]`.
    pub const fn linear_b(in_dim: usize, out_dim: usize, bias: bool) -> LinearSpec {
        LinearSpec { in_dim, out_dim, bias }
    }
}

/// `y = x wᵀ + b`, as `candle_nn::Linear`.
///
/// `weight` is `[out, in]`, or `[G, out, in]` for `G` sets; `bias` `[out]` or `[G, out]`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use hypernn::nn::{Linear, Module};
///
/// # fn main() -> candle_core::Result<()> {
/// // Two sets of weights, four rows: rows 0 and 1 use the first set, rows 2 and 3 the second.
/// let weight = Tensor::new(&[[[1f32, 1.]], [[10., 10.]]], &Device::Cpu)?;
/// let xs = Tensor::ones((4, 2), DType::F32, &Device::Cpu)?;
/// let ys = Linear::new(weight, None).forward(&xs)?;
/// assert_eq!(ys.to_vec2::<f32>()?, [[2.], [2.], [20.], [20.]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    /// What is added to the weight, and never computed as such.
    adapter: Option<Adapter>,
    bias: Option<Tensor>,
    /// Where the gradients of generated weights go.
    sinks: Option<(Sink, Option<Sink>)>,
}

impl Linear {
    /// A layer over existing tensors.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, adapter: None, bias, sinks: None }
    }

    /// The weight; with a low-rank [adapter](crate::target::adapter), that which is adapted.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The weight `[G, out, in]` and bias `[G, out]`, each with `G` 1 where it is shared.
    fn as_sets(&self) -> Result<(Tensor, Option<Tensor>)> {
        let with_sets = |tensor: &Tensor, rank| match sets::count("linear", tensor, rank)? {
            None => tensor.unsqueeze(0),
            Some(_) => Ok(tensor.clone()),
        };
        let weight = with_sets(&self.weight, 2)?;
        Ok((weight, self.bias.as_ref().map(|bias| with_sets(bias, 1)).transpose()?))
    }

    /// A bias of several sets beside a shared weight, or the other way round, is added afterwards.
    fn affine(&self, xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let Some(bias) = bias.filter(|bias| bias.dims()[0] != weight.dims()[0]) else {
            return self.product(xs, weight, bias);
        };
        let own = self.bias.iter().map(|bias| (bias, 1));
        sets::among("linear", &own.chain([(&self.weight, 2)]).collect::<Vec<_>>())?;
        let ys = self.product(xs, weight, None)?;
        let (sets, out_dim) = bias.dims2()?;
        let by_set = ys.reshape((sets, (), out_dim))?.broadcast_add(&bias.unsqueeze(1)?)?;
        by_set.reshape(ys.shape())
    }

    fn product(&self, xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match (self.sinks.clone(), bias) {
            (Some((sink, None)), None) => linear_into(xs, (weight, sink), None),
            (Some((sink, Some(bias_sink))), Some(bias)) => {
                linear_into(xs, (weight, sink), Some((bias, bias_sink)))
            }
            _ => crate::ops::linear::linear(xs, weight, bias),
        }
    }
}

impl Module for Linear {
    /// `[…, in]` to `[…, out]`.
    ///
    /// # Errors
    /// The input's last dimension is not `in`, or its first not a multiple of the number of sets.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (weight, bias) = self.as_sets()?;
        let (sets, out_dim, in_dim) = weight.dims3()?;
        let found = xs.dims().last().copied().unwrap_or(0);
        if found != in_dim {
            candle_core::bail!(
                "linear: the input has width {found} (shape {:?}), the layer takes {in_dim}",
                xs.dims()
            );
        }
        let rows = xs.elem_count() / in_dim;
        let bias_sets = bias.as_ref().map_or(1, |bias| bias.dims()[0]);
        let adapter_sets = self.adapter.as_ref().map_or(1, Adapter::sets);
        sets::rows_per_set("linear", xs.dim(0)?, sets.max(bias_sets).max(adapter_sets))?;
        let xs_by_set = xs.reshape((sets, rows / sets, in_dim))?;
        let ys = self.affine(&xs_by_set, &weight, bias.as_ref())?;
        let ys = match &self.adapter {
            Some(adapter) => ys.flatten_to(1)?.add(&adapter.apply(&xs_by_set.flatten_to(1)?)?)?,
            None => ys,
        };
        let mut shape = xs.dims().to_vec();
        shape.pop();
        shape.push(out_dim);
        ys.reshape(shape)
    }
}

impl HyperLayer<LinearSpec> for Linear {
    const TAKES_SETS: bool = true;

    fn build(spec: &LinearSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let (dims, bias, [weight_init, bias_init]) = spec.shapes()?;
        let (weight, adapter) = source.adapted(&affine::weight(&dims, weight_init))?;
        let weight_sink = source.sink();
        let (bias, bias_sink) = affine::bias(source, bias, bias_init)?.unzip();
        let sinks = weight_sink.map(|sink| (sink, bias_sink.flatten()));
        Ok(Self { weight, adapter, bias, sinks })
    }
}

impl Parameters for Linear {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        visitor("weight", &self.weight)?;
        self.bias.as_ref().map_or(Ok(()), |bias| visitor("bias", bias))
    }
}

impl HyperLayer<LinearSpec> for candle_nn::Linear {
    fn build(spec: &LinearSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let (dims, bias, inits) = spec.shapes()?;
        let (weight, bias) = affine::params(source, &dims, bias, inits)?;
        Ok(Self::new(weight, bias))
    }
}

impl Parameters for candle_nn::Linear {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        visitor("weight", self.weight())?;
        self.bias().map_or(Ok(()), |bias| visitor("bias", bias))
    }
}

/// A linear layer with bias; variables `weight` and `bias`.
///
/// # Errors
/// A size is zero, or the builder's tensors have another shape.
pub fn linear(in_dim: usize, out_dim: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    linear_b(in_dim, out_dim, true, vb)
}

/// A linear layer without bias; variable `weight`.
///
/// # Errors
/// A size is zero, or the builder's tensor has another shape.
pub fn linear_no_bias(in_dim: usize, out_dim: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    linear_b(in_dim, out_dim, false, vb)
}

/// A linear layer with or without bias.
///
/// # Errors
/// A size is zero, or the builder's tensors have another shape.
pub fn linear_b(in_dim: usize, out_dim: usize, bias: bool, vb: VarBuilder<'_>) -> Result<Linear> {
    let spec = LinearSpec { in_dim, out_dim, bias };
    Linear::build(&spec, &mut VarBuilderSource::new(vb))
}
