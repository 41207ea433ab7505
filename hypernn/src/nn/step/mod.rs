//! Steps without parameters, as they stand between the fields of a `#[hyper(sequential = […])]` chain.
//!
//! | Step | Shape of a sample |
//! |---|---|
//! | `relu`, `gelu`, `silu`, `tanh`, `sigmoid` | any, kept |
//! | `softmax`, `log_softmax`: over the last dimension | any, kept |
//! | `dropout(p)`, in `sequential_t` | any, kept |
//! | `flatten` | any to `[values]` |
//! | `flatten_from(1)` | `[A, B, …]` to `[A, values]` |
//! | `reshape([a, b])` | any to `[a, b]` |
//! | `permute([1, 0])` | `[A, B]` to `[B, A]` |
//! | `take(i)` | `[N, …]` to `[…]` |
//! | `mean(axis)` | the axis left out |
//! | `max_pool2d(size)`, `avg_pool2d(size)` | `[C, H, W]` to `[C, ⌊H / size⌋, ⌊W / size⌋]` |
//! | `max_pool2d(size, stride = s, padding = p)` | `[C, H, W]` to `[C, ⌊(H + 2p - size) / s⌋ + 1, …]` |
//! | `global_avg_pool2d` | `[C, H, W]` to `[C]` |
//! | `upsample2d(n)` | `[C, H, W]` to `[C, n H, n W]` |
//! | `split_heads(h)` | `[T, h × D]` to `[h, T, D]` |
//! | `merge_heads` | `[h, T, D]` to `[T, h × D]` |
//! | `rotary(theta)` | `[h, T, D]`, kept |
//! | `func(f)`: a function or closure `f(&Tensor) -> Result<Tensor>` | unknown behind it |
//!
//! Steps that take several values, each a block of steps in brackets or a value that has a name:
//!
//! | Step | Shape of a sample |
//! |---|---|
//! | `residual([…])`, `residual([…], skip = […])` | all of one shape, kept |
//! | `add([…], […])`, `mul([…], […])` | all of one shape, kept; a size of 1 counts for all |
//! | `concat(axis, […], […])` | the same but along the axis, where sizes are added up |
//! | `attention([q], [k], [v], causal = true)` | `[H, T, D]`, `[K, S, D]`, `[K, S, E]` to `[H, T, E]` |
//! | `join(self::mine, […], […])`: a step of your own, [`flow::Join`](crate::flow::Join) | its own |
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

mod axes;
mod heads;
mod join;

use candle_core::{D, Module, ModuleT, Result, Tensor};

pub use self::axes::{
    FlattenFrom, Permute, Reduce, Upsample2d, flatten_from, mean, permute, take, upsample2d,
};
pub use self::heads::{
    Attention, MergeHeads, RotaryStep, SplitHeads, attention, merge_heads, rotary, split_heads,
};
pub use self::join::{Concat, Elementwise, add, concat, mul, of_each_sample, residual};
use super::pool;
use crate::check::{Problem, ensure, too_many};
use crate::flow::{Given, SampleShape, Size};
use crate::info::LayerInfo;
use crate::ops::activation;

/// A step without parameters that says what it takes and gives, for a field with a `value` in a chain: sizes that are
/// known only at run time, `#[hyper(value = split_heads(config.heads))] heads: SplitHeads`.
pub trait ShapedStep {
    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    fn info(&self) -> LayerInfo;

    /// The shape of the output of one sample.
    fn gives(&self, input: &SampleShape) -> Given;
}

/// The inherent functions of a step as a trait's, for values at run time.
macro_rules! shaped {
    ($($step:ty $(, $R:ident)?;)*) => {$(
        impl$(<const $R: usize>)? ShapedStep for $step {
            fn info(&self) -> LayerInfo {
                Self::info(self)
            }

            fn gives(&self, input: &SampleShape) -> Given {
                Self::gives(self, input)
            }
        }
    )*};
}

shaped! {
    ShapePreserving;
    Dropout;
    Flatten;
    FlattenFrom;
    Reshape<R>, R;
    Permute<R>, R;
    Reduce;
    Upsample2d;
    Pool2d;
    MaxPool2d;
    GlobalAvgPool2d;
    SplitHeads;
    MergeHeads;
    RotaryStep;
}

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
        match input.rank() {
            Some(1) => Given::Shape(*input),
            _ => Given::Shape(SampleShape::of(&[input.num_values()])),
        }
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

/// One value of each window.
#[derive(Clone, Copy, Debug)]
pub struct Pool2d {
    name: &'static str,
    size: usize,
    pool: fn(&Tensor, usize) -> Result<Tensor>,
}

/// The mean of each window, windows side by side, see [`nn::avg_pool2d`](super::avg_pool2d).
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
        pooled(input, Window { size: self.size, stride: self.size, padding: 0 })
    }
}

impl Module for Pool2d {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        (self.pool)(xs, self.size)
    }
}

/// The largest value of each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool2d {
    size: usize,
    stride: usize,
    padding: usize,
}

/// The largest value of each window, see [`nn::max_pool2d`](super::max_pool2d): windows side by side, or every
/// `stride` pixels, which begin `padding` pixels before the input.
pub const fn max_pool2d(size: usize) -> MaxPool2d {
    MaxPool2d { size, stride: size, padding: 0 }
}

impl MaxPool2d {
    /// The pixels from one window to the next.
    #[must_use]
    pub const fn stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    /// The pixels by which the first window begins before the input, and the last ends behind it; less than the
    /// window has, so that none is empty.
    #[must_use]
    pub const fn padding(mut self, padding: usize) -> Self {
        self.padding = padding;
        self
    }

    const fn window(&self) -> Window {
        Window { size: self.size, stride: self.stride, padding: self.padding }
    }

    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        let too_much = Problem::new("max_pool2d: a padding of ").number(self.padding);
        let too_much = too_much.text(" is not below the window, ").number(self.size);
        LayerInfo::new("max_pool2d")
            .size("the window", self.size)
            .size("the stride", self.stride)
            .checked(if self.padding < self.size { None } else { Some(too_much) })
            .takes(SampleShape::of(&[None, None, None]))
    }

    /// The shape of the output of one sample; a problem where the window does not fit into the input.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        pooled(input, self.window())
    }
}

impl Module for MaxPool2d {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        if self.stride == self.size && self.padding == 0 {
            return pool::max_pool2d(xs, self.size);
        }
        ensure(self.info().problem)?;
        let (_, _, height, width) = xs.dims4()?;
        let (rows, columns) = (self.window().pixels(height)?, self.window().pixels(width)?);
        let device = xs.device();
        // All windows side by side. A pixel behind the edge is the edge's again, which the window has.
        let rows = xs.index_select(&Tensor::new(rows, device)?, 2)?;
        pool::max_pool2d(&rows.index_select(&Tensor::new(columns, device)?, 3)?, self.size)
    }
}

/// A window along one axis.
#[derive(Clone, Copy)]
struct Window {
    size: usize,
    stride: usize,
    padding: usize,
}

impl Window {
    /// How many there are along so many pixels; none where not one fits.
    const fn count(&self, pixels: usize) -> Option<usize> {
        let padded = pixels.saturating_add(self.padding.saturating_mul(2));
        if padded < self.size {
            return None;
        }
        Some((padded - self.size) / self.stride + 1)
    }

    /// The pixels under each, one window after the other.
    fn pixels(&self, pixels: usize) -> Result<Vec<u32>> {
        let Some(count) = self.count(pixels).filter(|_| pixels > 0) else {
            crate::error::bail!(
                shape,
                "max_pool2d: a window of {} does not fit into {pixels} pixels",
                self.size
            )
        };
        let of_window = |i: usize| {
            (0..self.size).map(move |j| {
                (i * self.stride + j).saturating_sub(self.padding).min(pixels - 1) as u32
            })
        };
        Ok((0..count).flat_map(of_window).collect())
    }
}

const fn pooled(input: &SampleShape, window: Window) -> Given {
    let (mut i, mut shape) =
        (1, SampleShape::of(&[input.dim(0), None, None]).with(0, input.size(0)));
    while i < 3 {
        if let Some(pixels) = input.dim(i) {
            let Some(count) = window.count(pixels) else {
                let problem = Problem::new("a window of ").number(window.size).text(" × ");
                return Given::Problem(problem.number(window.size).text(" does not fit"));
            };
            shape = shape.with(i, Size::Known(count));
        }
        i += 1;
    }
    Given::Shape(shape)
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
        Given::Shape(SampleShape::sized(&[input.size(0)]))
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
