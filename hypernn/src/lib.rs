//! Hypernetworks for [candle](candle_core): annotate a model, declare the network that generates
//! its weights.
//!
//! A *target* is an ordinary candle network: a struct of layers with `#[derive(HyperTarget)]`. A
//! *hypernetwork*, declared by [`hypernetwork!`], has variables of its own and makes the target's
//! weights from them, in every forward pass or once for many.
//!
//! ```
//! use candle_core::{DType, Device, Result, Tensor};
//! use hypernn::nn::{Linear, Module, Optimizer, SGD, VarMap};
//! use hypernn::{HyperTarget, hypernetwork, seeded};
//!
//! #[derive(HyperTarget)]
//! struct Net {
//!     #[hyper(linear(4, 8))]
//!     hidden: Linear,
//!     #[hyper(linear(8, 2))]
//!     out: Linear,
//! }
//!
//! impl Module for Net {
//!     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
//!         self.out.forward(&self.hidden.forward(xs)?.relu()?)
//!     }
//! }
//!
//! hypernetwork! {
//!     /// Ten embeddings of width 3, one linear layer that makes six weights of each.
//!     struct HyperNet for Net {
//!         embedding: table(10, 3),
//!         generator: linear,
//!         mode: static,
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! // Sizes are constants.
//! assert_eq!((HyperNet::NUM_TARGET_PARAMS, HyperNet::NUM_PARAMS), (58, 54));
//!
//! let vars = VarMap::new();
//! let hyper = HyperNet::new(seeded::var_builder(&vars, 0, DType::F32, &Device::Cpu))?;
//! let xs = Tensor::ones((5, 4), DType::F32, &Device::Cpu)?;
//! let loss = || hyper.forward(&xs)?.sqr()?.mean_all();
//! let before = loss()?.to_scalar::<f32>()?;
//! SGD::new(hyper.trainable(), 0.01)?.backward_step(&loss()?)?;
//! assert!(loss()?.to_scalar::<f32>()? < before);
//!
//! // An ordinary target over the generated weights.
//! let net: Net = hyper.target()?;
//! assert_eq!(net.hidden.weight().dims(), [8, 4]);
//! # Ok(())
//! # }
//! ```
//!
//! # The road that data takes
//!
//! 1. An [`embedding`] gives `N` rows of width `E`, `[N, E]`.
//! 2. A weight [`generator`] makes a chunk of values of each row, `[N, C]`; the [`ChunkPlan`] says
//!    how the chunks in a row cover the target's `P` parameters.
//! 3. The values are scaled as [`init`] says and cut into the target's tensors:
//!    [`GeneratedParams`], in module [`generated`]. Where each lies is the target's [`Layout`].
//! 4. The [`target`] is built over these tensors, of the layers in [`nn`], and its own `forward`
//!    runs. Gradients take the same road back to the hypernetwork's variables.
//!
//! With a [`condition`], embeddings or chunks depend on an input, a task, or a sequence or set of vectors: each of
//! them then gives a set of weights of its own, and the target's tensors are `[G, …]`.
//!
//! [`hypernetwork`](mod@hypernetwork) holds the parts together and keeps its variables in files;
//! [`constructor`] makes a target of any model that is built from a `VarBuilder`; [`param`] is how a layer gets its
//! tensors;
//! [`seeded`] draws variables from a seed; [`parallel`] trains on several processes at once; [`continual`] keeps old tasks while new ones are learned;
//! [`recompute`](mod@recompute) computes a block once more in the backward, in place of keeping what it computed;
//! [`derivative`](mod@derivative) has losses with derivatives of a network's outputs;
//! [`check`] words what is wrong with a declaration, at compile time where sizes are constants, and
//! [`flow`] follows shapes from layer to layer.
//!
//! # Threads
//!
//! All types are `Send` and `Sync`: the types that [`hypernetwork!`] emits (where their target's type is),
//! [`GeneratedParams`], [`Pretrained`], layouts, audits, specs. A hypernetwork behind a reference or an
//! `Arc` generates and serves from several threads; what trains it holds its variables, so that training and
//! serving at once needs a lock of your own, as in candle.
//!
//! # Features
//!
//! None by default. `tracing` adds spans around generation and forward. `serde` reads and writes what
//! declarations are made of (roles, specs of embeddings and generators, activations, encodings, init
//! schemes), by the names that declarations have, and writes what is computed (layouts, chunk plans,
//! audits). `mpi` trains by processes that MPI starts (`parallel::Mpi`), and needs MPI to be built; `nccl` by NVIDIA cards
//! (`parallel::Nccl`), and takes in `cuda`. `cuda`, `cudnn`, `metal`, `mkl` and `accelerate` switch on those of candle.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod check;
pub mod condition;
pub mod constructor;
pub mod continual;
pub mod derivative;
pub mod embedding;
mod error;
mod files;
mod finite;
pub mod flow;
pub mod generated;
pub mod generator;
mod hyper_target;
pub mod hypernetwork;
mod info;
pub mod init;
mod memory;
mod mlp;
pub mod nn;
mod ops;
pub mod parallel;
pub mod param;
mod plan;
mod pretrained;
pub mod recompute;
pub mod seeded;
mod structure;
mod trace;

/// The version of candle that this crate is built on: a program that takes it from here can't have another.
pub use candle_core;
/// The version of candle's layers and optimisers that this crate is built on.
pub use candle_nn;
pub use condition::{Condition, ConditionValue, Sequences};
pub use derivative::derivative;
pub use embedding::State;
pub use error::Error;
pub use files::gguf;
pub use flow::ShapedTarget;
pub use generated::GeneratedParams;
pub use hyper_target::{FixedTarget, HyperTarget};
pub use hypernetwork::{Aux, DynamicAux, Hypernetwork, PeftOptions};
pub use hypernn_macros::HyperTarget;
/// Declares hypernetworks, each over a target, as types of your own.
///
/// ```
/// use candle_core::{DType, Device, Result, Tensor};
/// use hypernn::nn::{Linear, VarBuilder, VarMap};
/// use hypernn::{HyperTarget, hypernetwork};
///
/// #[derive(HyperTarget)]
/// #[hyper(sequential)]
/// struct Net {
///     #[hyper(linear(4, 2))]
///     fc: Linear,
/// }
///
/// hypernetwork! {
///     /// One set of weights, from ten values: five embeddings of width 2.
///     struct Static for Net {
///         embedding: table(5, 2),
///         generator: linear,
///         mode: static,
///     }
///
///     /// Weights for a condition of width 3.
///     struct Dynamic for Net {
///         embedding: encoder(3, [8], tanh, 5, 2),
///         generator: linear,
///         mode: dynamic,
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let vars = VarMap::new();
/// let builder = || VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
/// let xs = Tensor::ones((6, 4), DType::F32, &Device::Cpu)?;
/// let ys = Static::new(builder().pp("static"))?.forward(&xs)?;
/// assert_eq!((ys.dims(), Static::NUM_TARGET_PARAMS), (&[6, 2][..], 10));
///
/// let hyper = Dynamic::new(builder().pp("dynamic"))?;
/// // Two conditions give two sets of weights: three rows of the input for each.
/// let params = hyper.generate_params(&Tensor::ones((2, 3), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(params.forward(&xs)?.dims(), [6, 2]);
/// # Ok(())
/// # }
/// ```
///
pub use hypernn_macros::hypernetwork;
pub use info::LayerInfo;
pub use plan::ChunkPlan;
pub use pretrained::Pretrained;
pub use recompute::recompute;
pub use structure::layer::{HyperLayer, Parameters};
pub use structure::layout::Layout;
pub use structure::role::Role;

/// The target: the network whose weights are generated.
pub mod target {
    pub use crate::hyper_target::{Configures, FixedTarget, HyperTarget, NestedSpec};
    pub use crate::structure::{
        ForwardTarget, ForwardTargetT, Outputs, adapter, layer, layout, role, source, tensor, value,
    };
}

/// What the macros' output names; not for use by hand.
#[doc(hidden)]
pub mod __private;

/// Runs the README's programs as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
