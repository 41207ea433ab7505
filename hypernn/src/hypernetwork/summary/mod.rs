//! What a hypernetwork generates, and what it trains, tensor by tensor: as a table and as a drawing.

mod drawing;
mod rows;
mod table;

use std::ops::Range;

use super::core::Core;
use crate::condition::Condition;
use crate::flow::Network;
use crate::init::InitScheme;
use crate::plan::ChunkPlan;

/// The steps of a target's forward, every tensor of the target, with its share of the parameters and the generated rows
/// that feed it, and every variable of the hypernetwork.
///
/// `Display` writes Markdown tables, aligned for a terminal, and the totals. The steps, with the shape of one sample
/// behind each, are those of a target with `#[hyper(sequential)]`. [`to_mermaid`](Self::to_mermaid) and
/// [`to_dot`](Self::to_dot) draw the way from the embedding to the target's layers; what the target does is drawn by its
/// [`network`](Self::network).
///
/// ```
/// use candle_core::{DType, Device, Result};
/// use hypernn::nn::{Linear, VarBuilder, VarMap};
/// use hypernn::{HyperTarget, hypernetwork};
///
/// #[derive(HyperTarget)]
/// #[hyper(sequential = [hidden, relu, out], input = 64)]
/// struct Net {
///     #[hyper(linear(64, 64))]
///     hidden: Linear,
///     #[hyper(linear(64, 10))]
///     out: Linear,
/// }
///
/// hypernetwork! { struct HyperNet for Net { embedding: table(37, 8), generator: linear, mode: static } }
///
/// # fn main() -> Result<()> {
/// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
/// let expected = "\
/// | step of Net |                | shape |
/// |:------------|:---------------|:------|
/// | input       |                | [64]  |
/// | hidden      | linear(64, 64) | [64]  |
/// | relu        |                | [64]  |
/// | out         | linear(64, 10) | [10]  |
///
/// | tensor of Net | shape    | role     | rows   | parameters |   share |
/// |:--------------|:---------|:---------|:-------|-----------:|--------:|
/// | hidden.weight | [64, 64] | generate | 0..32  |      4,096 |  85.2 % |
/// | hidden.bias   | [64]     | generate | 31..32 |         64 |   1.3 % |
/// | out.weight    | [10, 64] | generate | 32..37 |        640 |  13.3 % |
/// | out.bias      | [10]     | generate | 36..37 |         10 |   0.2 % |
/// | total         |          |          |        |      4,810 | 100.0 % |
///
/// | variable of HyperNet | shape    | role  | parameters |   share |
/// |:---------------------|:---------|:------|-----------:|--------:|
/// | embedding.weight     | [37, 8]  | train |        296 |  20.2 % |
/// | generator.weight     | [130, 8] | train |      1,040 |  70.9 % |
/// | generator.bias       | [130]    | train |        130 |   8.9 % |
/// | total                |          |       |      1,466 | 100.0 % |
///
/// embedding: table(37, 8), generator: linear, mode: static, init: exact
/// 37 chunks of 130, surplus 0
/// Net: 4,810 generated
/// HyperNet: 1,466 trained, 30.5 % of what it generates
/// ";
/// assert_eq!(hyper.summary().to_string(), expected);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Summary {
    name: String,
    target: String,
    embedding: String,
    generator: String,
    mode: &'static str,
    init: InitScheme,
    chunks: ChunkPlan,
    tensors: Vec<TensorSummary>,
    variables: Vec<TensorSummary>,
    #[cfg_attr(feature = "serde", serde(skip))]
    conditions: (Condition, Condition),
    #[cfg_attr(feature = "serde", serde(skip))]
    network: Option<Network>,
}

/// A tensor of a target, or a variable of a hypernetwork.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TensorSummary {
    /// Its path, as in the layout or in a checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Of a target's tensor: `generate`, `train`, `freeze`, `lora` for the generated factors of a low-rank adapter,
    /// `shared` or `tied` for one that is another tensor, and `buffer` for one that is no parameter. Of a variable:
    /// `train`, `base` or `buffer`.
    pub role: &'static str,
    /// The generated rows that feed it; none where it is not generated.
    pub rows: Option<Range<usize>>,
    /// The number of its values that are parameters: 0 for what is counted elsewhere, and for buffers and bases.
    pub num_params: usize,
    /// Its part of the parameters of its table, from 0 to 1.
    pub share: f64,
    /// The tensor that it is, where it is shared or tied.
    pub same_as: Option<String>,
    /// The path of its layer.
    #[cfg_attr(feature = "serde", serde(skip))]
    layer: String,
}

impl Summary {
    /// The target's tensors: parameters in the order in which the target asks for them, then tied ones and buffers.
    pub fn tensors(&self) -> &[TensorSummary] {
        &self.tensors
    }

    /// What a checkpoint of the hypernetwork holds: variables, bases and buffers, in the order of construction.
    pub fn variables(&self) -> &[TensorSummary] {
        &self.variables
    }

    /// The steps of the target's forward, with the shape of one sample behind each: a table and a drawing of their own. None
    /// of a target whose forward is written by hand.
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// The number of the target's parameters that are generated, the factors of adapters included.
    pub fn num_generated(&self) -> usize {
        self.chunks.num_params()
    }

    /// The number of the target's parameters of this role.
    pub fn num_of_role(&self, role: &str) -> usize {
        self.tensors
            .iter()
            .filter(|tensor| tensor.role == role)
            .map(|tensor| tensor.num_params)
            .sum()
    }

    /// The number of values that are trained: those of the hypernetwork, and those of the target with the role
    /// `train`.
    pub fn num_trained(&self) -> usize {
        self.variables.iter().map(|variable| variable.num_params).sum()
    }
}

impl<T> Core<T> {
    /// Every tensor of the target and every variable of this hypernetwork, with sizes and totals: a table for a log
    /// or a paper, and the source of a drawing. See [`Summary`].
    pub fn summary(&self) -> Summary {
        let parts = &self.parts;
        Summary {
            name: self.name.to_owned(),
            target: self.plan.name.to_owned(),
            embedding: parts.embedding.clone(),
            generator: parts.generator.clone(),
            mode: parts.mode,
            init: self.scheme,
            chunks: self.chunks(),
            tensors: rows::of_target(self.layout(), &self.chunks()),
            variables: rows::of_network(self.named_tensors()),
            conditions: parts.conditions,
            network: self.plan.network(),
        }
    }
}
