//! Weight generators: from embeddings to generated parameters.
//!
//! Both parts of a hypernetwork can be written by hand. A spec is a plain value that the macro
//! evaluates at compile time and `new` builds at run time:
//!
//! ```
//! use candle_core::{DType, Device, Result, Tensor};
//! use hypernn::generator::{
//!     GeneratorInfo, GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator,
//! };
//! use hypernn::init::InitScheme;
//! use hypernn::nn::{Init, Linear, VarBuilder, VarMap};
//! use hypernn::{HyperTarget, hypernetwork};
//!
//! /// A generator whose output is bounded: `sin(x W)`.
//! #[derive(Clone, Copy)]
//! pub struct Bounded;
//!
//! impl Bounded {
//!     const fn info(&self, shape: GeneratorShape) -> GeneratorInfo {
//!         GeneratorInfo::new(shape.plan).params(shape.embedding_dim * shape.plan.chunk())
//!     }
//! }
//!
//! impl std::fmt::Display for Bounded {
//!     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
//!         f.write_str("Bounded")
//!     }
//! }
//!
//! impl GeneratorSpec for Bounded {
//!     fn build(
//!         &self,
//!         shape: GeneratorShape,
//!         scheme: InitScheme,
//!         vb: VarBuilder<'_>,
//!     ) -> Result<Box<dyn WeightGenerator>> {
//!         let dims = (shape.embedding_dim, shape.plan.chunk());
//!         let weight = vb.get_with_hints(dims, "weight", scheme.weight(shape.embedding_dim, 1.))?;
//!         Ok(Box::new(BoundedGenerator { weight }))
//!     }
//! }
//!
//! #[derive(Debug)]
//! struct BoundedGenerator {
//!     weight: Tensor,
//! }
//!
//! impl WeightGenerator for BoundedGenerator {
//!     fn forward(&self, embedding: &Tensor) -> Result<GeneratorOutput> {
//!         Ok(embedding.matmul(&self.weight)?.sin()?.into())
//!     }
//! }
//!
//! #[derive(HyperTarget)]
//! struct Net {
//!     #[hyper(linear(4, 2))]
//!     fc: Linear,
//! }
//!
//! hypernetwork! {
//!     struct HyperNet for Net {
//!         embedding: table(5, 3),
//!         generator: Bounded,
//!         mode: static,
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let vars = VarMap::new();
//! let hyper = HyperNet::new(VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
//! assert_eq!(HyperNet::NUM_PARAMS, 5 * 3 + 3 * 2);
//! assert_eq!(hyper.generate_params()?.flat()?.dims(), [10]);
//! # Ok(())
//! # }
//! ```

mod conditioned;
mod heads;
mod linear;
mod mlp;
mod output;
pub mod per_module;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::check::{Problem, first, zero};
pub use crate::info::GeneratorInfo;
use crate::init::InitScheme;
pub use crate::mlp::Activation;
use crate::plan::ChunkPlan;
use crate::structure::layout::{Layout, ParamInfo};
pub use conditioned::{Conditioned, ConditionedGenerator, ConditionedGeneratorSpec};
pub use heads::HeadsSpec;
pub use linear::LinearSpec;
pub use mlp::{LowRankSpec, MlpSpec};
pub use output::GeneratorOutput;
pub use per_module::PerModuleSpec;

/// The generators and their activations as they are written after `generator:`.
pub mod spec {
    pub use super::heads::heads;
    pub use super::linear::linear;
    pub use super::mlp::{low_rank, mlp};
    pub use super::per_module::per_module;
    pub use crate::condition::{cos_sin, raw};
    pub use crate::mlp::{gelu, identity, relu, sigmoid, silu, tanh};
}

/// What a weight generator takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GeneratorShape {
    /// `N`, the number of embeddings.
    pub num_embeddings: usize,
    /// `E`, the width of an embedding.
    pub embedding_dim: usize,
    /// The rows and their width.
    pub plan: ChunkPlan,
}

impl GeneratorShape {
    /// For a target with so many parameters, with one row for each embedding.
    pub const fn new(num_embeddings: usize, embedding_dim: usize, num_params: usize) -> Self {
        let plan = ChunkPlan::new(num_params, num_embeddings);
        Self { num_embeddings, embedding_dim, plan }
    }

    /// What is wrong with the sizes, if anything: a width of zero, rows that feed nothing.
    pub const fn check(&self) -> Option<Problem> {
        first(&[zero("embedding", "the width", self.embedding_dim), self.plan.check()])
    }
}

/// A network from embeddings to generated parameters.
pub trait WeightGenerator: std::fmt::Debug + Send + Sync {
    /// `[N, E]` to `[rows, chunk]`.
    ///
    /// # Errors
    /// candle's own.
    fn forward(&self, embedding: &Tensor) -> Result<GeneratorOutput>;

    /// `G` sets of embeddings `[G, N, E]` to `[G × rows, chunk]`.
    ///
    /// A generator that treats each row by itself need not write this one.
    ///
    /// # Errors
    /// candle's own.
    fn forward_sets(&self, embeddings: &Tensor) -> Result<GeneratorOutput> {
        self.forward(&embeddings.flatten(0, 1)?)
    }

    /// A table `[N, E]` whose rows are scaled by gains `[G, N]`, to `[G × rows, chunk]`.
    ///
    /// A generator that is linear in its embedding can do better than to scale first.
    ///
    /// # Errors
    /// candle's own.
    fn forward_scaled(&self, table: &Tensor, gains: &Tensor) -> Result<GeneratorOutput> {
        self.forward_sets(&table.unsqueeze(0)?.broadcast_mul(&gains.unsqueeze(2)?)?)
    }

    /// Whether what it first generates for this tensor is zero, for whatever embeddings. The tensor then starts where
    /// it should by itself: nothing that was generated first is kept for it, and it has no gain.
    fn starts_at_zero(&self, _param: &ParamInfo) -> bool {
        false
    }
}

/// What is written after `generator:`, a plain value that builds a [`WeightGenerator`].
///
/// The type also has an inherent function, which the macro evaluates at compile time:
/// `const fn info(&self, shape: GeneratorShape) -> GeneratorInfo`. The shape's plan is that of one row for each
/// embedding; the generator's own, in what `info` gives, may be another, such as
/// [`ChunkPlan::whole`](crate::ChunkPlan::whole). [`checked`](GeneratorInfo::checked) can refuse a width of
/// embedding.
///
/// What `Display` writes is in checkpoints, and another declaration must write the same to load one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the generator of a static hypernetwork",
    label = "not a generator without a condition",
    note = "write `linear`, `mlp([32], tanh)`, `low_rank(8)`, `heads` or `per_module(8, [32], gelu)`, or a value whose type implements `hypernn::generator::GeneratorSpec`",
    note = "a generator that takes the input needs `mode: dynamic`"
)]
pub trait GeneratorSpec: std::fmt::Display {
    /// Builds the generator, with its variables below `vb`. Under [`InitScheme::Exact`] its output
    /// starts with mean 0 and variance 1.
    ///
    /// # Errors
    /// A size is zero, or the builder's own.
    fn build(
        &self,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>>;

    /// Builds the generator for the tensors of this layout: what hypernetworks call. A generator that treats all
    /// values alike need not write this one; one whose variables depend on names and shapes also says so in `info`, by
    /// [`params_by_layout`](GeneratorInfo::params_by_layout).
    ///
    /// # Errors
    /// Those of [`build`](Self::build).
    fn build_for(
        &self,
        _layout: &Layout,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        self.build(shape, scheme, vb)
    }
}
