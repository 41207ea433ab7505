//! One generator for the modules of all layers, which is told for which of them it makes a tensor.
//!
//! `generator: per_module(64, [128], gelu)` reads the names of the tensors that are generated. Each row of a tensor
//! is made by itself, from the condition and learned embeddings of the row's place:
//!
//! ```text
//! condition [N × E] ──────────────────┐
//! layer     model.layers.7 ───────────┤              head per width
//! kind      model.layers.*.q.lora_a ──┼──► trunk ──► [hidden → in] ──► one row of `down`, [in]
//! row       3 ────────────────────────┘
//! ```
//!
//! - The *layer* is the path up to the first number in the name, `model.layers.7` of
//!   `model.layers.7.q_proj.weight`. Tensors without a number in their names share a layer of their own.
//! - The *kind* is the name without that number. Further numbers are a part of it: `layers.*.experts.5.w1` and
//!   `layers.*.experts.6.w1` are two kinds. The two factors of an adapter are two kinds as well.
//! - The *rows* of an adapter's `down`, `[rank, in]`, are its rows, those of `up`, `[out, rank]`, its columns, so that
//!   row `r` of both belongs to one rank. Of a tensor that is generated whole, a matrix or a kernel is made row by
//!   row, and a vector as one row.
//! - Rows of one width have one head, a linear layer; those of `down`, of `up` and of whole tensors have heads of
//!   their own.
//!
//! A further layer of the target then costs one embedding and nothing else: the number of variables is
//! `width × (layers + kinds + rows) + trunk + (hidden + 1) × Σ widths of heads`. A row per rank is the smallest form,
//! "S", of Charakorn et al., *Text-to-LoRA: Instant Transformer Adaption* (2025), with a head per width in place of
//! one for all.
//!
//! All embeddings of a set are the condition, one behind the other: `table(1, 8)`, `tasks(20, 1, 64)` or
//! `encoder(384, [128], gelu, 1, 64)` are enough.
//!
//! Many embeddings, such as those of a `perceiver` that reads a document, can stand for the parts of the target
//! instead, so that each part has a condition of its own, as in Charakorn et al., *Doc-to-LoRA: Learning to Instantly
//! Internalize Contexts* (2026). Which is which follows from the layout, and another number of embeddings is an error:
//!
//! - `.by_row()`: embedding `r` is the condition of row `r` of every tensor; there are as many as the rank, or as the
//!   most rows that a tensor has.
//! - `.by_layer()`: one embedding for each layer, in the order of the layout.
//! - `.by_place()`: one for each row of each tensor, in the order of the layout. Both factors of an adapter share
//!   theirs, as they share their rows.
//!
//! Under the exact init the heads of `up` start as zeros, so that every adapter starts at zero, and the generator
//! learns from there on; all else starts with mean 0 and variance 1. (Other generators multiply `up` by a gain that
//! starts at zero, one for each tensor, or keep what they gave first.)
//!
//! A language model's decoder, in small; an adapter for each of two tasks:
//!
//! ```
//! use candle_core::{DType, Device, Result, Tensor};
//! use hypernn::nn::{Linear, Module, VarBuilder, VarMap};
//! use hypernn::{HyperTarget, hypernetwork};
//!
//! #[derive(HyperTarget)]
//! struct Block {
//!     #[hyper(linear_no_bias(16, 16))]
//!     q_proj: Linear,
//!     #[hyper(linear_no_bias(16, 8))]
//!     v_proj: Linear,
//!     #[hyper(linear_no_bias(8, 16))]
//!     o_proj: Linear,
//! }
//!
//! #[derive(HyperTarget)]
//! #[hyper(config = usize)]
//! struct Decoder {
//!     #[hyper([target; *config])]
//!     layers: Vec<Block>,
//! }
//!
//! impl Module for Decoder {
//!     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
//!         self.layers.iter().try_fold(xs.clone(), |xs, block| {
//!             let values = block.v_proj.forward(&block.q_proj.forward(&xs)?.tanh()?)?;
//!             xs + block.o_proj.forward(&values)?
//!         })
//!     }
//! }
//!
//! hypernetwork! {
//!     struct HyperDecoder for Decoder {
//!         config: usize,
//!         roles: [("*.q_proj.weight", lora(4, 8.)), ("*.v_proj.weight", lora(4, 8.)), ("*", freeze)],
//!         embedding: tasks(2, 1, 12),
//!         generator: per_module(12, [32], gelu),
//!         mode: dynamic,
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let size = |layers: usize| -> Result<usize> {
//!     let (pretrained, vars) = (VarMap::new(), VarMap::new());
//!     let builder = |vars| VarBuilder::from_varmap(vars, DType::F32, &Device::Cpu);
//!     let decoder = Decoder::with_config(&layers, builder(&pretrained))?;
//!     let hyper = HyperDecoder::new_from(&layers, builder(&vars), builder(&pretrained))?;
//!     // A set for each of two tasks; each starts as the decoder itself.
//!     let params = hyper.generate_params(&Tensor::new(&[0u32, 1], &Device::Cpu)?)?;
//!     let xs = Tensor::randn(0f32, 1., (6, 16), &Device::Cpu)?;
//!     let difference = (params.forward(&xs)? - decoder.forward(&xs)?)?.abs()?.max_all()?;
//!     assert!(difference.to_scalar::<f32>()? < 1e-5);
//!     Ok(hyper.num_params())
//! };
//! // Each further layer costs one embedding of width 12.
//! assert_eq!(size(30)? - size(2)?, 28 * 12);
//! # Ok(())
//! # }
//! ```

mod network;
mod places;

use candle_core::Result;
use candle_nn::VarBuilder;

use super::{GeneratorShape, GeneratorSpec, WeightGenerator};
use crate::check::{Problem, ensure, product, too_many, zero};
use crate::error::bail;
use crate::info::GeneratorInfo;
use crate::init::InitScheme;
use crate::mlp::{self, Activation, Appended};
use crate::plan::ChunkPlan;
use crate::structure::layout::Layout;
use network::{NetworkSizes, PlaceNetwork};
use places::Places;

/// `generator: per_module(width, [hidden, …], activation)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct PerModuleSpec<const L: usize> {
    width: usize,
    #[cfg_attr(feature = "serde", serde(with = "crate::mlp::widths"))]
    widths: [usize; L],
    activation: Activation,
    #[cfg_attr(feature = "serde", serde(default))]
    reads: Reads,
}

/// Which embeddings a row of a tensor is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
enum Reads {
    /// All of them.
    #[default]
    All,
    /// That of its number in the tensor.
    Row,
    /// That of its layer.
    Layer,
    /// One of its own.
    Place,
}

impl Reads {
    /// How it is written after the generator; nothing for the default.
    const fn suffix(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Row => ".by_row()",
            Self::Layer => ".by_layer()",
            Self::Place => ".by_place()",
        }
    }

    /// What there is an embedding for each of.
    const fn parts(self) -> &'static str {
        match self {
            Self::All => "sets of embeddings",
            Self::Row => "rows of a tensor",
            Self::Layer => "layers",
            Self::Place => "rows of all tensors",
        }
    }
}

/// `generator: per_module(width, [hidden, …], activation)`: one perceptron for all layers, which takes the condition
/// and learned embeddings, of this width, of the layer, the kind of module and the row for which it makes a row of a
/// tensor; see [`generator::per_module`](crate::generator::per_module).
pub const fn per_module<const L: usize>(
    width: usize,
    widths: [usize; L],
    activation: Activation,
) -> PerModuleSpec<L> {
    PerModuleSpec { width, widths, activation, reads: Reads::All }
}

impl<const L: usize> PerModuleSpec<L> {
    /// Makes row `r` of every tensor from embedding `r`, and no other; of an adapter of rank `r` from `r` embeddings.
    #[must_use]
    pub const fn by_row(mut self) -> Self {
        self.reads = Reads::Row;
        self
    }

    /// Makes the rows of each layer from an embedding of the layer.
    #[must_use]
    pub const fn by_layer(mut self) -> Self {
        self.reads = Reads::Layer;
        self
    }

    /// Makes each row of each tensor from an embedding of its own, which the two factors of an adapter share.
    #[must_use]
    pub const fn by_place(mut self) -> Self {
        self.reads = Reads::Place;
        self
    }

    /// What it generates, and what is wrong with its sizes, if anything. How many variables it has depends on the
    /// layout.
    pub const fn info(&self, shape: GeneratorShape) -> GeneratorInfo {
        let inputs = product(&[shape.num_embeddings, shape.embedding_dim]);
        let places = product(&[3, self.width]);
        GeneratorInfo::new(ChunkPlan::whole(shape.plan.num_params()))
            .params_by_layout()
            .checked(zero("per_module", "width", self.width))
            .checked(self.no_hidden())
            .checked(mlp::zero_width("per_module", self.widths))
            .checked(too_many("per_module", &[shape.num_embeddings, shape.embedding_dim]))
            .checked(mlp::too_many("per_module", inputs, self.widths, 1))
            .checked(mlp::too_many("per_module", places, self.widths, 1))
    }

    /// Without a hidden layer, layer and condition would add up, and never meet.
    const fn no_hidden(&self) -> Option<Problem> {
        if L > 0 {
            return None;
        }
        Some(Problem::new("per_module: no hidden widths, expected at least 1"))
    }

    /// The generator of embeddings that end in `width` values of unknown size.
    pub(super) fn build_appended(
        &self,
        layout: &Layout,
        shape: GeneratorShape,
        width: usize,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        ensure(self.info(shape).problem)?;
        let places = Places::of(layout, self.reads);
        let groups = match self.reads {
            Reads::All => shape.num_embeddings,
            _ => 1,
        };
        self.check_embeddings(shape.num_embeddings, &places)?;
        let sizes = NetworkSizes {
            width: self.width,
            hidden: &self.widths,
            activation: self.activation,
            inputs: groups * shape.embedding_dim,
            appended: Appended { groups, width },
        };
        Ok(Box::new(PlaceNetwork::new(&sizes, places, scheme, vb)?))
    }

    /// Whether there are as many embeddings as parts that read one.
    fn check_embeddings(&self, found: usize, places: &Places) -> Result<()> {
        match places.num_read {
            Some(expected) if found != expected => bail!(
                declaration,
                "`{self}` makes {expected} {} from {found} embeddings, expected {expected}",
                self.reads.parts()
            ),
            _ => Ok(()),
        }
    }
}

impl<const L: usize> std::fmt::Display for PerModuleSpec<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "per_module({}, {:?}, {})", self.width, self.widths, self.activation.name())?;
        f.write_str(self.reads.suffix())
    }
}

#[diagnostic::do_not_recommend]
impl<const L: usize> GeneratorSpec for PerModuleSpec<L> {
    /// An error: what it makes depends on the layout.
    fn build(
        &self,
        _: GeneratorShape,
        _: InitScheme,
        _: VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        bail!(declaration, "`{self}` is built for the tensors of a layout: call `build_for`")
    }

    /// Variables `layer.weight`, `kind.weight` and `row.weight`, the embeddings of places; `trunk.condition.weight`,
    /// `trunk.place.weight` and `trunk.place.bias`, the first hidden layer, then `trunk.1.weight`, `trunk.1.bias`, …;
    /// and `head.down_576.weight`, `head.down_576.bias`, …, for each width of rows.
    fn build_for(
        &self,
        layout: &Layout,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        self.build_appended(layout, shape, 0, scheme, &vb)
    }
}
