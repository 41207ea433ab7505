//! The linear layer: `y = x wᵀ + b`.

use candle_core::{D, Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::affine;
use super::affine::Affine;
use crate::check::too_many;
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::ops;
use crate::ops::gain::plus;
use crate::param::{Adapter, Param, sets};
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::{ParamSource, VarBuilderSource};

/// What a linear layer is made of: `linear(in_dim, out_dim)` in an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearSpec {
    in_dim: usize,
    out_dim: usize,
    bias: bool,
}

impl LinearSpec {
    /// The layer's tensors, what it takes for one sample, and what is wrong with its sizes, if anything.
    pub const fn info(&self) -> LayerInfo {
        let (inputs, outputs) = (self.in_dim, self.out_dim);
        let info = LayerInfo::new(LAYER)
            .size("in_dim", inputs)
            .size("out_dim", outputs)
            .checked(too_many(LAYER, &[inputs, outputs]))
            .takes(SampleShape::last(inputs))
            .tensor("weight", &[outputs, inputs]);
        if self.bias { info.tensor("bias", &[outputs]) } else { info }
    }

    /// The shape of the output of one sample: that of the input, with a last dimension `out_dim`.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(input.with_last(self.out_dim))
    }

    /// The dimensions of weight and bias, and how `candle_nn::linear` initialises them.
    fn shapes(&self) -> Result<([usize; 2], Option<usize>, [Init; 2])> {
        crate::check::ensure(self.info().problem)?;
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
/// `weight` is `[out, in]`, or `[G, out, in]` for `G` sets; `bias` `[out]` or `[G, out]`, or any other
/// shape that broadcasts to that of the output, as candle's may be.
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
    params: Affine,
}

impl Linear {
    /// A layer over existing tensors.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { params: Affine::new(weight, bias) }
    }

    /// The weight, with what a low-rank [adapter](crate::structure::adapter) adds to it; computed when it is first
    /// asked for.
    pub fn weight(&self) -> &Tensor {
        self.params.weight.shown(2)
    }

    /// The bias, `[out]`, or `[G, out]` for `G` sets; none in a layer without one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.params.shown_bias()
    }

    /// The bias, as a row for each set, or to be broadcast.
    fn biases(&self, outputs: usize) -> (Option<&Param>, Option<&Param>) {
        match &self.params.bias {
            Some(bias) if is_row(bias.dims(), outputs) => (Some(bias), None),
            other => (None, other.as_ref()),
        }
    }

    fn check_input(&self, xs: &Tensor, sets: usize) -> Result<()> {
        let in_dim = self.params.weight.outline().dim(D::Minus1)?;
        let found = xs.dims().last().copied().unwrap_or(0);
        if found != in_dim {
            crate::error::bail!(
                shape,
                "linear: the input has width {found} (shape {:?}), the layer takes {in_dim}",
                xs.dims()
            );
        }
        sets::rows_per_set("linear", xs.dim(0)?, sets).map(drop)
    }
}

impl Module for Linear {
    /// `[…, in]` to `[…, out]`.
    ///
    /// # Errors
    /// The input's last dimension is not `in`, its first not a multiple of the number of sets, or the bias
    /// has another shape.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let weight = &self.params.weight;
        let of_weight = ("weight", weight.outline(), 2);
        sets::count(LAYER, of_weight.0, of_weight.1, of_weight.2)?;
        let (bias, broadcast) = self.biases(weight.outline().dim(D::Minus2)?);
        let of_bias = bias.map(|bias| ("bias", bias.outline(), 1));
        let sets = sets::among(LAYER, std::iter::once(of_weight).chain(of_bias))?;
        self.check_input(xs, sets.max(weight.adapter().map_or(1, Adapter::sets)))?;
        // A weight that all sets share is not repeated for a bias of each.
        let apart = sets > 1 && weight.rank() == 2;
        let with = bias.filter(|_| !apart);
        let with = with.map(|bias| bias.repeated(1, sets)).transpose()?;
        let ys = ops::linear::linear(xs, weight, with.as_ref())?;
        match bias {
            Some(bias) if apart => {
                let (bias, shape) = (bias.collected()?, ys.shape());
                let by_set = ys.reshape((sets, (), bias.dim(1)?))?;
                plus(LAYER, &by_set, &bias.unsqueeze(1)?)?.reshape(shape)
            }
            _ => match broadcast {
                Some(bias) => add_broadcast(&ys, &bias.collected()?),
                None => Ok(ys),
            },
        }
    }
}

/// Whether a bias is a row, or one for each set.
fn is_row(dims: &[usize], outputs: usize) -> bool {
    matches!(dims, [found] | [_, found] if *found == outputs)
}

/// Adds a bias of another shape as candle does.
fn add_broadcast(ys: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let outputs = ys.dim(D::Minus1)?;
    plus(LAYER, ys, bias).map_err(|err| match err {
        err if bias.dtype() != ys.dtype() => err,
        _ => crate::error::shape(format!(
            "linear: the bias has shape {:?}, expected [{outputs}], or the number of sets in front, or what broadcasts to the output's {:?}",
            bias.dims(),
            ys.dims()
        )),
    })
}

const LAYER: &str = "linear";

impl HyperLayer<LinearSpec> for Linear {
    const TAKES_SETS: bool = true;

    fn build(spec: &LinearSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let (dims, bias, inits) = spec.shapes()?;
        Ok(Self { params: Affine::adapted(source, &dims, bias, inits)? })
    }
}

impl Parameters for Linear {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.params.visit(visitor)
    }

    fn reused(&self, name: &str) -> Result<Option<Param>> {
        self.params.reused(name)
    }
}

impl HyperLayer<LinearSpec> for candle_nn::Linear {
    fn build(spec: &LinearSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let (dims, bias, inits) = spec.shapes()?;
        let (weight, bias) = Affine::from_source(source, &dims, bias, inits)?.to_tensors()?;
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
