//! How shapes pass through a chain of layers, computed by the compiler.
//!
//! A target with `#[hyper(sequential)]` is a chain: the derive writes its forward, and follows the
//! shape of one sample from step to step. A step that does not fit the one before it is a compile
//! error at the step.
//!
//! ```
//! use hypernn::HyperTarget;
//! use hypernn::nn::{Conv2d, Linear};
//!
//! #[derive(HyperTarget)]
//! #[hyper(sequential = [conv, relu, max_pool2d(2), flatten, fc], input = (1, 28, 28))]
//! struct Net {
//!     #[hyper(conv2d(1, 8, 5))]
//!     conv: Conv2d,
//!     #[hyper(linear(8 * 12 * 12, 10))]
//!     fc: Linear,
//! }
//!
//! assert_eq!(Net::INPUT_SHAPE.to_string(), "[1, 28, 28]");
//! assert_eq!(Net::OUTPUT_SHAPE.to_string(), "[10]");
//! // Constants, for checks of your own.
//! const _: () = assert!(Net::OUTPUT_SHAPE.is(&[10]));
//! ```
//!
//! A forward may have residuals, branches, attention, several inputs and sizes that have a name:
//!
//! ```
//! use hypernn::HyperTarget;
//! use hypernn::nn::{LayerNorm, Linear};
//!
//! #[derive(HyperTarget)]
//! #[hyper(
//!     sequential = [
//!         residual([
//!             norm1,
//!             attention([q, split_heads(4)], [k, split_heads(4)], [v, split_heads(4)]),
//!             merge_heads,
//!             out,
//!         ]),
//!         residual([norm2, mul([gate, silu], [up]), down]),
//!     ],
//!     input = (T, 32),
//! )]
//! struct Block {
//!     #[hyper(layer_norm(32, 1e-5))]
//!     norm1: LayerNorm,
//!     #[hyper(linear(32, 32))]
//!     q: Linear,
//!     #[hyper(linear(32, 32))]
//!     k: Linear,
//!     #[hyper(linear(32, 32))]
//!     v: Linear,
//!     #[hyper(linear(32, 32))]
//!     out: Linear,
//!     #[hyper(layer_norm(32, 1e-5))]
//!     norm2: LayerNorm,
//!     #[hyper(linear(32, 64))]
//!     gate: Linear,
//!     #[hyper(linear(32, 64))]
//!     up: Linear,
//!     #[hyper(linear(64, 32))]
//!     down: Linear,
//! }
//!
//! // `T` positions, however many these are.
//! assert_eq!(Block::OUTPUT_SHAPE.to_string(), "[T, 32]");
//! ```
//!
//! A forward that gives several tensors says which: `output` has a value by its name, or steps that go on from the end of
//! the chain. [`ShapedTarget::OUTPUT_SHAPES`] has the shapes of all.
//!
//! ```
//! use candle_core::{DType, Device, Result, Tensor};
//! use hypernn::nn::{Linear, VarMap};
//! use hypernn::{HyperTarget, hypernetwork, seeded};
//!
//! #[derive(HyperTarget)]
//! #[hyper(
//!     sequential = [fc, relu],
//!     input = 784,
//!     output = (mean = to_mean, log_variance = to_log_variance),
//! )]
//! struct Encoder {
//!     #[hyper(linear(784, 64))]
//!     fc: Linear,
//!     #[hyper(linear(64, 8))]
//!     to_mean: Linear,
//!     #[hyper(linear(64, 8))]
//!     to_log_variance: Linear,
//! }
//!
//! hypernetwork! { struct HyperEncoder for Encoder { embedding: table(52, 8), generator: linear, mode: static } }
//!
//! # fn main() -> Result<()> {
//! let hyper = HyperEncoder::new(seeded::var_builder(&VarMap::new(), 0, DType::F32, &Device::Cpu))?;
//! let (mean, log_variance) = hyper.forward(&Tensor::ones((2, 784), DType::F32, &Device::Cpu)?)?;
//! assert_eq!((mean.dims(), log_variance.dims()), (&[2, 8][..], &[2, 8][..]));
//! assert!(Encoder::OUTPUT_SHAPES[1].is(&[8]));
//! # Ok(())
//! # }
//! ```
//!
//! `docs/forward-language.md` in the repository has all of the language. [`HyperTarget::network`](crate::HyperTarget::network)
//! gives the steps with their shapes, as a table or a drawing.
//!
//! A layer of your own takes part with two inherent functions of its spec, `const fn info(&self) -> LayerInfo` and
//! `const fn gives(&self, input: &SampleShape) -> Given`, see [`HyperLayer`](crate::HyperLayer); a step without
//! parameters likewise, see [`nn::step`](crate::nn::step).

mod bindings;
mod chain;
pub(crate) mod drawing;
mod network;
mod shape;
mod size;
mod step;

pub use chain::{Chain, JoinPlaces, Value};
pub use network::{Network, Node, NodeAt, NodePlace};
pub use shape::SampleShape;
pub use size::Size;
pub use step::{Join, JoinT, KeepsShape, Step, StepT};

use crate::check::Problem;

/// What a step gives for an input that it takes.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::large_enum_variant, reason = "for the compiler, which has no boxes")]
#[non_exhaustive]
pub enum Given {
    /// A tensor of this shape.
    Shape(SampleShape),
    /// Nothing: the message says what is wrong, without the step's name and the input's shape.
    Problem(Problem),
    /// Nothing, of a step that takes several values: one of them does not fit another one.
    Misfit {
        /// The number of the value that does not fit.
        operand: usize,
        /// The number of the one that it does not fit.
        beside: usize,
        /// The size to replace in what made the first of them, and by what, where that is known.
        instead: Option<(usize, usize)>,
        /// What is expected, without the step's name and the two shapes.
        problem: Problem,
    },
}

/// A target whose shapes are constants. A chain with sizes that are constants derives it; implement
/// it by hand for a target whose forward is written by hand, to have it checked in chains and
/// hypernetworks.
pub trait ShapedTarget {
    /// The shape of one sample that the target takes, without the batch.
    const INPUT_SHAPE: SampleShape;

    /// The shape of one sample that the target gives, without the batch. A [named size](Size::Named) in it is that of
    /// the same name in the inputs' shapes. Of several outputs, the first one's.
    const OUTPUT_SHAPE: SampleShape;

    /// The shapes of one sample of all inputs, of a target that takes several.
    const INPUT_SHAPES: &'static [SampleShape] = &[Self::INPUT_SHAPE];

    /// The shapes of one sample of all outputs, of a target that gives several.
    const OUTPUT_SHAPES: &'static [SampleShape] = &[Self::OUTPUT_SHAPE];
}

#[diagnostic::do_not_recommend]
impl<T: ShapedTarget> ShapedTarget for Box<T> {
    const INPUT_SHAPE: SampleShape = T::INPUT_SHAPE;
    const OUTPUT_SHAPE: SampleShape = T::OUTPUT_SHAPE;
    const INPUT_SHAPES: &'static [SampleShape] = T::INPUT_SHAPES;
    const OUTPUT_SHAPES: &'static [SampleShape] = T::OUTPUT_SHAPES;
}
