//! What the specs of layers, steps, embeddings and generators say of themselves, in constants.
//!
//! Each spec has an inherent `const fn info`. The macros evaluate it: at compile time where all sizes are
//! constants, so that a wrong size is a compile error, and when a network is built where they are not.

use crate::check::{MOST_VALUES, Problem, keep_first, product, sum, too_many, zero};
use crate::condition::Condition;
use crate::flow::SampleShape;
use crate::plan::ChunkPlan;

/// What the spec of a layer says of the layer: the tensors that it asks its source for, the shape that it takes,
/// and what is wrong with its sizes. A step of a `sequential` chain, which has no tensors, says the same of itself.
///
/// A spec of your own builds it in `const fn info(&self) -> LayerInfo`; see [`HyperLayer`](crate::HyperLayer)
/// for a whole layer.
///
/// ```
/// use hypernn::LayerInfo;
///
/// const INFO: LayerInfo = LayerInfo::new("bilinear")
///     .size("left", 3)
///     .size("right", 0)
///     .tensor("weight", &[8, 3, 0])
///     .tensor("bias", &[8]);
/// assert_eq!(INFO.num_params, 8 * 3 * 0 + 8);
/// let problem = INFO.problem.map(|problem| problem.message().to_owned());
/// assert_eq!(problem.as_deref(), Some("bilinear: right is 0, expected at least 1"));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LayerInfo {
    /// The layer's name, for messages.
    pub name: &'static str,
    /// The number of values in its tensors.
    pub num_params: usize,
    /// The number of values in its tensor `weight`, which `tie(weight = …)` takes from elsewhere.
    pub num_weights: usize,
    /// What the layer takes for one sample, without the batch; any shape unless it says otherwise.
    pub takes: SampleShape,
    /// What is wrong with its sizes, if anything.
    pub problem: Option<Problem>,
    /// Of the tensors that are matrices or kernels, as matrices: the sum of both sides of each.
    sides: usize,
    /// The matrix whose smaller side is the smallest.
    smallest: Option<Matrix>,
}

#[derive(Clone, Copy, Debug)]
struct Matrix {
    outputs: usize,
    inputs: usize,
}

// Layers ask for it in each build, so that all is inlined: but for the problem, nothing of it is used there.
impl LayerInfo {
    /// A layer of this name without tensors, which takes any shape.
    #[inline(always)]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            num_params: 0,
            num_weights: 0,
            takes: SampleShape::ANY,
            problem: None,
            sides: 0,
            smallest: None,
        }
    }

    /// A tensor of this name and shape that the layer asks its source for. More values than any memory holds
    /// are a problem. A matrix `[out, in]` or a kernel `[out, …]` can have a low-rank
    /// [adapter](crate::target::adapter).
    #[must_use]
    #[inline(always)]
    pub const fn tensor(mut self, name: &str, dims: &[usize]) -> Self {
        let values = product(dims);
        self.num_params = sum(&[self.num_params, values]);
        if is_weight(name) {
            self.num_weights = sum(&[self.num_weights, values]);
        }
        if dims.len() > 1 {
            self = self.matrix(dims[0], values);
        }
        if values > MOST_VALUES {
            keep_first(&mut self.problem, too_many(self.name, dims));
        }
        self
    }

    #[inline(always)]
    const fn matrix(mut self, outputs: usize, values: usize) -> Self {
        let inputs = match outputs {
            // Found elsewhere.
            0 => 0,
            outputs => values / outputs,
        };
        let matrix = Matrix { outputs, inputs };
        self.sides = sum(&[self.sides, outputs, inputs]);
        self.smallest = match self.smallest {
            Some(smallest) if smallest.side() <= matrix.side() => Some(smallest),
            _ => Some(matrix),
        };
        self
    }

    /// A size that has to be at least 1.
    #[must_use]
    #[inline(always)]
    pub const fn size(self, size: &str, value: usize) -> Self {
        let name = self.name;
        self.checked(zero(name, size, value))
    }

    /// A problem, if there is one; the first of several is kept.
    #[must_use]
    #[inline(always)]
    pub const fn checked(mut self, problem: Option<Problem>) -> Self {
        keep_first(&mut self.problem, problem);
        self
    }

    /// What the layer takes for one sample, without the batch.
    #[must_use]
    #[inline(always)]
    pub const fn takes(mut self, takes: SampleShape) -> Self {
        self.takes = takes;
        self
    }

    /// The size of its low-rank adapters of this rank, one for each matrix and kernel.
    pub const fn adapter(&self, rank: usize) -> AdapterSize {
        let (outputs, inputs) = match self.smallest {
            Some(Matrix { outputs, inputs }) => (outputs, inputs),
            None => (0, 0),
        };
        AdapterSize { rank, num_params: product(&[rank, self.sides]), outputs, inputs }
    }

    /// What is wrong with low-rank adapters of this rank, if anything: no tensor that can have one, or the rank.
    pub const fn check_adapter(&self, rank: usize) -> Option<Problem> {
        if self.smallest.is_some() {
            return self.adapter(rank).check();
        }
        let problem = Problem::new("`").text(self.name).text("` can't have the role `lora`: ");
        Some(problem.text("none of its tensors is a matrix or a kernel"))
    }
}

impl Matrix {
    /// The smaller side.
    const fn side(&self) -> usize {
        if self.outputs < self.inputs { self.outputs } else { self.inputs }
    }
}

const fn is_weight(name: &str) -> bool {
    matches!(name.as_bytes(), b"weight")
}

/// The size of the low-rank adapters that a layer's weights can have; see [`LayerInfo::adapter`].
///
/// ```
/// use hypernn::target::adapter::AdapterSize;
///
/// const SIZE: AdapterSize = AdapterSize::of_matrix(2, 10, 64);
/// assert_eq!(SIZE.num_params(), 2 * (10 + 64));
/// assert!(SIZE.check().is_none());
/// let problem = AdapterSize::of_matrix(11, 10, 64).check().map(|problem| problem.message().to_owned());
/// let expected = "the rank of the adapter is 11, expected 1 to 10: the weight is 10 × 64";
/// assert_eq!(problem.as_deref(), Some(expected));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdapterSize {
    rank: usize,
    num_params: usize,
    /// Of the weight whose smaller side is the smallest.
    outputs: usize,
    inputs: usize,
}

impl AdapterSize {
    /// The size of an adapter of this rank of a weight `[outputs, inputs]`.
    pub const fn of_matrix(rank: usize, outputs: usize, inputs: usize) -> Self {
        Self { rank, num_params: product(&[rank, sum(&[outputs, inputs])]), outputs, inputs }
    }

    /// The number of generated values.
    pub const fn num_params(&self) -> usize {
        self.num_params
    }

    /// The highest rank: with more, the factors would say no more than the weight.
    const fn most(&self) -> usize {
        Matrix { outputs: self.outputs, inputs: self.inputs }.side()
    }

    /// What is wrong with the rank, if anything.
    pub const fn check(&self) -> Option<Problem> {
        let most = self.most();
        if most == 0 || (self.rank > 0 && self.rank <= most) {
            return None;
        }
        let problem = Problem::new("the rank of the adapter is ").number(self.rank);
        let problem = problem.text(", expected 1 to ").number(most).text(": the weight is ");
        Some(problem.number(self.outputs).text(" × ").number(self.inputs))
    }
}

/// What the spec of an embedding says of the embedding.
///
/// A spec of your own builds it in `const fn info(&self) -> EmbeddingInfo`; see
/// [`EmbeddingSpec`](crate::embedding::EmbeddingSpec) for a whole embedding.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EmbeddingInfo {
    /// `N`, the number of embeddings.
    pub num_embeddings: usize,
    /// `E`, the width of an embedding.
    pub embedding_dim: usize,
    /// The number of values in its variables.
    pub num_params: usize,
    /// What the embedding is conditioned on; nothing unless it says otherwise.
    pub condition: Condition,
    /// What is wrong with its sizes, if anything.
    pub problem: Option<Problem>,
}

impl EmbeddingInfo {
    /// `[N, E]`, without variables and without a condition.
    pub const fn new(num_embeddings: usize, embedding_dim: usize) -> Self {
        let condition = Condition::None;
        Self { num_embeddings, embedding_dim, num_params: 0, condition, problem: None }
    }

    /// The number of values in its variables.
    #[must_use]
    pub const fn params(mut self, num_params: usize) -> Self {
        self.num_params = num_params;
        self
    }

    /// What it is conditioned on.
    #[must_use]
    pub const fn condition(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    /// A problem, if there is one; the first of several is kept.
    #[must_use]
    pub const fn checked(mut self, problem: Option<Problem>) -> Self {
        keep_first(&mut self.problem, problem);
        self
    }
}

/// What the spec of a weight generator says of the generator.
///
/// A spec of your own builds it in `const fn info(&self, shape: GeneratorShape) -> GeneratorInfo`; see
/// [`generator`](crate::generator) for a whole generator.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct GeneratorInfo {
    /// How the rows that it generates cover the target's flat vector.
    pub plan: ChunkPlan,
    /// The number of values in its variables; 0 where that depends on the layout.
    pub num_params: usize,
    /// Whether the number of values in its variables depends on the names and shapes of the target's tensors, which
    /// are known when the hypernetwork is built.
    pub depends_on_layout: bool,
    /// What the generator is conditioned on, beside the embeddings; nothing unless it says otherwise.
    pub condition: Condition,
    /// What is wrong with its sizes, if anything.
    pub problem: Option<Problem>,
}

impl GeneratorInfo {
    /// A generator of these rows, without variables and without a condition. `plan` is that of the shape for a
    /// generator of one row for each embedding.
    pub const fn new(plan: ChunkPlan) -> Self {
        let condition = Condition::None;
        Self { plan, num_params: 0, depends_on_layout: false, condition, problem: None }
    }

    /// How many values its variables have is known when it is built: it depends on the target's layout.
    #[must_use]
    pub const fn params_by_layout(mut self) -> Self {
        self.depends_on_layout = true;
        self
    }

    /// The number of values in its variables.
    #[must_use]
    pub const fn params(mut self, num_params: usize) -> Self {
        self.num_params = num_params;
        self
    }

    /// What it is conditioned on, beside the embeddings.
    #[must_use]
    pub const fn condition(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    /// A problem, if there is one; the first of several is kept.
    #[must_use]
    pub const fn checked(mut self, problem: Option<Problem>) -> Self {
        keep_first(&mut self.problem, problem);
        self
    }
}

/// Implemented by nothing: its message is what a layer's or a step's spec without `info` gets.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no function `info`, which says what tensors and sizes it has",
    label = "it has no `const fn info`",
    note = "add `const fn info(&self) -> LayerInfo` to an `impl` of `{Self}`; `hypernn::HyperLayer` has an example"
)]
pub trait HasInfo {
    /// No type.
    type Info;

    /// Never called.
    fn never() -> Self::Info;
}

/// Implemented by nothing: its message is what a layer's or a step's spec without `gives` in a chain gets.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no function `gives`, which says what shape it gives as a step of `sequential`",
    label = "it has no `const fn gives`",
    note = "add `const fn gives(&self, input: &SampleShape) -> Given` to an `impl` of `{Self}`; `hypernn::HyperLayer` has an example"
)]
pub trait HasShapes {
    /// No type.
    type Given;

    /// Never called.
    fn never() -> Self::Given;
}

/// Implemented by nothing: its message is what an embedding's spec without `info` gets.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no function `info`, which says how many embeddings it has, and of what width",
    label = "it has no `const fn info`",
    note = "add `const fn info(&self) -> EmbeddingInfo` to an `impl` of `{Self}`; `hypernn::embedding::EmbeddingSpec` has an example"
)]
pub trait HasEmbeddingInfo {
    /// No type.
    type Info;

    /// Never called.
    fn never() -> Self::Info;
}

/// Implemented by nothing: its message is what a generator's spec without `info` gets.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no function `info`, which says what it generates, and from how many values",
    label = "it has no `const fn info`",
    note = "add `const fn info(&self, shape: GeneratorShape) -> GeneratorInfo` to an `impl` of `{Self}`; `hypernn::generator` has an example"
)]
pub trait HasGeneratorInfo {
    /// No type.
    type Info;

    /// Never called.
    fn never() -> Self::Info;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(problem: Option<Problem>) -> Option<String> {
        problem.map(|problem| problem.message().to_owned())
    }

    #[test]
    fn tensors_are_counted() {
        let info = LayerInfo::new("own").tensor("weight", &[4, 3, 2]).tensor("bias", &[4]);
        assert_eq!((info.num_params, info.num_weights), (28, 24));
        let info = info.tensor("weights", &[5]);
        assert_eq!((info.num_params, info.num_weights), (33, 24));
    }

    #[test]
    fn adapters_are_those_of_matrices_and_kernels() {
        let info = LayerInfo::new("own").tensor("a", &[8, 3, 2]).tensor("b", &[8]);
        assert_eq!(info.adapter(2).num_params(), 2 * (8 + 6));
        let info = info.tensor("c", &[8, 4]);
        assert_eq!(info.adapter(2).num_params(), 2 * (8 + 6) + 2 * (8 + 4));
        assert!(info.check_adapter(4).is_none());
        let expected = "the rank of the adapter is 5, expected 1 to 4: the weight is 8 × 4";
        assert_eq!(message(info.check_adapter(5)).as_deref(), Some(expected));
        let expected =
            "`own` can't have the role `lora`: none of its tensors is a matrix or a kernel";
        let info = LayerInfo::new("own").tensor("weight", &[8]);
        assert_eq!(message(info.check_adapter(1)).as_deref(), Some(expected));
    }

    #[test]
    fn the_first_problem_is_kept() {
        let info = LayerInfo::new("own").size("a", 1).size("b", 0).size("c", 0);
        assert_eq!(message(info.problem).as_deref(), Some("own: b is 0, expected at least 1"));
        let info = LayerInfo::new("own").tensor("weight", &[usize::MAX, 2]);
        let expected = format!("own: {} × 2 values are more than any memory holds", usize::MAX);
        assert_eq!(message(info.problem), Some(expected));
    }
}
