//! Steps without parameters, as they stand between the fields of a `#[hyper(sequential = […])]` chain.
//!
//! | Step | Shape of a sample |
//! |---|---|
//! | `relu`, `gelu`, `silu`, `tanh`, `sigmoid` | any, kept |
//! | `softmax`, `log_softmax`: over the last dimension | any, kept |
//! | `dropout(p)`, in `sequential_t` | any, kept |
//! | `flatten` | any to `[values]` |
//! | `reshape([a, b])` | any to `[a, b]` |
//! | `max_pool2d(size)`, `avg_pool2d(size)` | `[C, H, W]` to `[C, ⌊H / size⌋, ⌊W / size⌋]` |
//! | `global_avg_pool2d` | `[C, H, W]` to `[C]` |
//! | `func(f)`: a function or closure `f(&Tensor) -> Result<Tensor>` | unknown behind it |
//!
//! A step of your own is a value of a type with [`Module`] and two inherent functions: `info`, which says what it
//! takes and what is wrong with it, and `gives`, which says what shape it makes of one that it takes. In the chain
//! it is written as a call or by its path:
//!
//! ```
//! use candle_core::{Result, Tensor};
//! use hypernn::flow::{Given, SampleShape};
//! use hypernn::nn::{Linear, Module};
//! use hypernn::{HyperTarget, LayerInfo};
//!
//! /// Appends the squares.
//! struct Squares;
//!
//! impl Squares {
//!     const fn info(&self) -> LayerInfo {
//!         LayerInfo::new("squares").takes(SampleShape::of(&[None]))
//!     }
//!
//!     const fn gives(&self, input: &SampleShape) -> Given {
//!         match input.last_dim() {
//!             Some(width) => Given::Shape(SampleShape::new(&[2 * width])),
//!             None => Given::Shape(SampleShape::of(&[None])),
//!         }
//!     }
//! }
//!
//! impl Module for Squares {
//!     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
//!         Tensor::cat(&[xs, &xs.sqr()?], 1)
//!     }
//! }
//!
//! #[derive(HyperTarget)]
//! #[hyper(sequential = [self::Squares, hidden, relu, out], input = 3)]
//! struct Net {
//!     #[hyper(linear(2 * 3, 8))]
//!     hidden: Linear,
//!     #[hyper(linear(8, 1))]
//!     out: Linear,
//! }
//! # fn main() {}
//! ```

use candle_core::{D, Module, ModuleT, Result, Tensor};

use super::pool;
use crate::check::{Problem, ensure, too_many};
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::ops::activation;

/// A function that keeps the shape.
#[derive(Clone, Copy, Debug)]
pub struct ShapePreserving {
    name: &'static str,
    function: fn(&Tensor) -> Result<Tensor>,
}

/// `max(x, 0)`, and NaN where `x` is NaN, see [`nn::relu`](super::relu).
#[allow(non_upper_case_globals)]
pub const relu: ShapePreserving = ShapePreserving::new("relu", activation::relu);
/// `x Φ(x)`.
#[allow(non_upper_case_globals)]
pub const gelu: ShapePreserving = ShapePreserving::new("gelu", Tensor::gelu_erf);
/// `x / (1 + e⁻ˣ)`.
#[allow(non_upper_case_globals)]
pub const silu: ShapePreserving = ShapePreserving::new("silu", Tensor::silu);
/// `tanh x`.
#[allow(non_upper_case_globals)]
pub const tanh: ShapePreserving = ShapePreserving::new("tanh", Tensor::tanh);
/// `1 / (1 + e⁻ˣ)`.
#[allow(non_upper_case_globals)]
pub const sigmoid: ShapePreserving = ShapePreserving::new("sigmoid", candle_nn::ops::sigmoid);
/// `eˣ`, divided by its sum over the last dimension, see [`nn::softmax`](super::softmax()).
#[allow(non_upper_case_globals)]
pub const softmax: ShapePreserving = ShapePreserving::new("softmax", super::softmax);
/// The logarithm of `softmax`.
#[allow(non_upper_case_globals)]
pub const log_softmax: ShapePreserving =
    ShapePreserving::new("log_softmax", |xs| candle_nn::ops::log_softmax(xs, D::Minus1));

impl ShapePreserving {
    const fn new(name: &'static str, function: fn(&Tensor) -> Result<Tensor>) -> Self {
        Self { name, function }
    }

    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new(self.name)
    }

    /// The shape of the output of one sample: that of the input.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(*input)
    }
}

impl Module for ShapePreserving {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        (self.function)(xs)
    }
}

/// Zeros instead of values, in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    p: f32,
}

/// In training, each value becomes 0 with probability `p` and is divided by `1 - p` otherwise.
pub const fn dropout(p: f32) -> Dropout {
    Dropout { p }
}

impl Dropout {
    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        let problem = Problem::new("dropout: p is expected from 0 on, and below 1");
        let problem = if self.p >= 0. && self.p < 1. { None } else { Some(problem) };
        LayerInfo::new("dropout").checked(problem)
    }

    /// The shape of the output of one sample: that of the input.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(*input)
    }
}

impl ModuleT for Dropout {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        if train { candle_nn::ops::dropout(xs, self.p) } else { Ok(xs.clone()) }
    }
}

/// The step `flatten`: all dimensions but the batch become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flatten;

/// `[B, …]` to `[B, values]`.
#[allow(non_upper_case_globals)]
pub const flatten: Flatten = Flatten;

impl Flatten {
    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new("flatten")
    }

    /// The shape of the output of one sample: one dimension of as many values as the input has.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(SampleShape::of(&[input.num_values()]))
    }
}

impl Module for Flatten {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        xs.flatten_from(1)
    }
}

/// Other dimensions for the same values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reshape<const R: usize> {
    sizes: [usize; R],
}

/// `[B, …]` to `[B, sizes…]`.
pub const fn reshape<const R: usize>(sizes: [usize; R]) -> Reshape<R> {
    Reshape { sizes }
}

impl<const R: usize> Reshape<R> {
    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new("reshape").checked(too_many("reshape", &self.sizes))
    }

    /// The shape of the output of one sample, that of the step's sizes; a problem where the input has another
    /// number of values.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        let shape = SampleShape::new(&self.sizes);
        match (input.num_values(), shape.num_values()) {
            (Some(found), Some(values)) if found != values => {
                let problem = Problem::new("").shape(&shape).text(" has ").number(values);
                Given::Problem(problem.text(" values, expected ").number(found))
            }
            _ => Given::Shape(shape),
        }
    }
}

impl<const R: usize> Module for Reshape<R> {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let sizes: Vec<_> = std::iter::once(xs.dim(0)?).chain(self.sizes).collect();
        // candle multiplies them from the left, also where a later one is 0.
        let others: Vec<_> = sizes.iter().copied().filter(|size| *size > 0).collect();
        ensure(too_many("reshape", &others))?;
        xs.reshape(sizes)
    }
}

/// One value of each window, windows side by side.
#[derive(Clone, Copy, Debug)]
pub struct Pool2d {
    name: &'static str,
    size: usize,
    pool: fn(&Tensor, usize) -> Result<Tensor>,
}

/// The largest value of each window, see [`nn::max_pool2d`](super::max_pool2d).
pub const fn max_pool2d(size: usize) -> Pool2d {
    Pool2d { name: "max_pool2d", size, pool: pool::max_pool2d }
}

/// The mean of each window, see [`nn::avg_pool2d`](super::avg_pool2d).
pub const fn avg_pool2d(size: usize) -> Pool2d {
    Pool2d { name: "avg_pool2d", size, pool: pool::avg_pool2d }
}

impl Pool2d {
    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new(self.name)
            .size("the window", self.size)
            .takes(SampleShape::of(&[None, None, None]))
    }

    /// The shape of the output of one sample, `[C, height / size, width / size]`; a problem where the window does
    /// not fit into the input.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        let (mut i, mut dims) = (1, [input.dim(0), None, None]);
        while i < 3 {
            match input.dim(i) {
                Some(pixels) if pixels < self.size => {
                    let problem = Problem::new("a window of ").number(self.size).text(" × ");
                    return Given::Problem(problem.number(self.size).text(" does not fit"));
                }
                Some(pixels) => dims[i] = Some(pixels / self.size),
                None => {}
            }
            i += 1;
        }
        Given::Shape(SampleShape::of(&dims))
    }
}

impl Module for Pool2d {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        (self.pool)(xs, self.size)
    }
}

/// The mean of each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobalAvgPool2d;

/// The mean of each channel, see [`nn::global_avg_pool2d`](super::global_avg_pool2d).
#[allow(non_upper_case_globals)]
pub const global_avg_pool2d: GlobalAvgPool2d = GlobalAvgPool2d;

impl GlobalAvgPool2d {
    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new("global_avg_pool2d").takes(SampleShape::of(&[None, None, None]))
    }

    /// The shape of the output of one sample: one dimension, the channels.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(SampleShape::of(&[input.dim(0)]))
    }
}

impl Module for GlobalAvgPool2d {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        pool::global_avg_pool2d(xs)
    }
}

/// A function as a step.
#[derive(Clone, Copy, Debug)]
pub struct Func<F>(F);

/// A function or closure, of whose shapes nothing is known.
pub const fn func<F: Fn(&Tensor) -> Result<Tensor>>(f: F) -> Func<F> {
    Func(f)
}

impl<F> Func<F> {
    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new("func")
    }

    /// The shape of the output of one sample, which can be any.
    pub const fn gives(&self, _: &SampleShape) -> Given {
        Given::Shape(SampleShape::ANY)
    }
}

impl<F: Fn(&Tensor) -> Result<Tensor>> Module for Func<F> {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        (self.0)(xs)
    }
}
