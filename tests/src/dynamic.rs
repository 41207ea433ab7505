//! Dynamic hypernetworks of every kind, with sizes chosen at run time.

use candle_core::{DType, Result, Var};
use candle_nn::VarBuilder;
use hypernn::Condition;
use hypernn::embedding::ConditionedEmbeddingSpec;
use hypernn::embedding::spec::{cos_sin, encoder, gru, lstm, rnn, table, tasks};
use hypernn::generated::TargetPlan;
use hypernn::generator::spec::{gelu, heads, linear, low_rank, mlp, tanh};
use hypernn::generator::{ConditionedGeneratorSpec, GeneratorShape};
use hypernn::hypernetwork::{Declared, DynamicHyperNetwork};
use hypernn::init::InitScheme;
use hypernn::{FixedTarget, HyperTarget};

/// The embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Embedding {
    Rnn,
    Gru,
    Lstm,
    RnnCosSin,
    Encoder,
    EncoderCosSin,
    Table,
    Tasks,
}

/// The generators, without and with the condition appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Generator {
    Linear,
    Mlp,
    LowRank,
    Heads,
    LinearConditioned,
    MlpConditioned,
    LowRankConditioned,
    HeadsConditioned,
    LinearCosSin,
}

/// How many tasks an embedding of tasks has.
pub const NUM_TASKS: usize = 5;

const EMBEDDINGS: [Embedding; 8] = [
    Embedding::Rnn,
    Embedding::Gru,
    Embedding::Lstm,
    Embedding::RnnCosSin,
    Embedding::Encoder,
    Embedding::EncoderCosSin,
    Embedding::Table,
    Embedding::Tasks,
];

const PLAIN: [Generator; 4] =
    [Generator::Linear, Generator::Mlp, Generator::LowRank, Generator::Heads];

const CONDITIONED: [Generator; 5] = [
    Generator::LinearConditioned,
    Generator::MlpConditioned,
    Generator::LowRankConditioned,
    Generator::HeadsConditioned,
    Generator::LinearCosSin,
];

/// Every embedding with every generator that goes with it: a table takes no condition, so the
/// generator must; a task is no vector to append.
pub fn kinds() -> Vec<(Embedding, Generator)> {
    let generators = |embedding| -> Vec<Generator> {
        match embedding {
            Embedding::Table => CONDITIONED.to_vec(),
            Embedding::Tasks => PLAIN.to_vec(),
            _ => PLAIN.into_iter().chain(CONDITIONED).collect(),
        }
    };
    let pairs = |embedding| generators(embedding).into_iter().map(move |g| (embedding, g));
    EMBEDDINGS.into_iter().flat_map(pairs).collect()
}

/// The sizes of a hypernetwork.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Of the condition.
    pub width: usize,
    /// At most this many embeddings; as many as waste no row.
    pub num_embeddings: usize,
    /// Of an embedding.
    pub embedding_dim: usize,
}

/// A hypernetwork that is not built yet.
pub struct Parts {
    /// What is written after `embedding:`.
    pub embedding: Box<dyn ConditionedEmbeddingSpec>,
    /// What is written after `generator:`.
    pub generator: Box<dyn ConditionedGeneratorSpec>,
    /// What they take.
    pub conditions: (Condition, Condition),
    /// Embeddings and chunks.
    pub shape: GeneratorShape,
    /// The number of variables' values, by the specs.
    pub num_params: usize,
}

impl Parts {
    /// For a target of `target_params` parameters.
    pub fn new(
        embedding: Embedding,
        generator: Generator,
        sizes: Sizes,
        target_params: usize,
    ) -> Self {
        let Sizes { width, num_embeddings, embedding_dim: dim } = sizes;
        let num = target_params.div_ceil(target_params.div_ceil(num_embeddings));
        macro_rules! embedding {
            ($spec:expr) => {{
                let spec = $spec;
                let boxed: Box<dyn ConditionedEmbeddingSpec> = Box::new(spec);
                (boxed, spec.info().condition, spec.info().num_params)
            }};
        }
        let (embedding, condition, embedding_params) = match embedding {
            Embedding::Rnn => embedding!(rnn(width, num, dim)),
            Embedding::Gru => embedding!(gru(width, num, dim)),
            Embedding::Lstm => embedding!(lstm(width, num, dim)),
            Embedding::RnnCosSin => embedding!(rnn(width, num, dim).encoding(cos_sin)),
            Embedding::Encoder => embedding!(encoder(width, [7, 3], tanh, num, dim)),
            Embedding::EncoderCosSin => {
                embedding!(encoder(width, [4], gelu, num, dim).encoding(cos_sin))
            }
            Embedding::Table => embedding!(table(num, dim)),
            Embedding::Tasks => embedding!(tasks(NUM_TASKS, num, dim)),
        };
        macro_rules! generator {
            ($spec:expr) => {{
                let spec = $spec;
                let shape = GeneratorShape::new(num, dim, target_params);
                let info = spec.info(shape);
                let shape = GeneratorShape { plan: info.plan, ..shape };
                let boxed: Box<dyn ConditionedGeneratorSpec> = Box::new(spec);
                (boxed, info.condition, info.num_params, shape)
            }};
        }
        let (generator, generator_condition, generator_params, shape) = match generator {
            Generator::Linear => generator!(linear),
            Generator::Mlp => generator!(mlp([5, 3], tanh)),
            Generator::LowRank => generator!(low_rank(2)),
            Generator::Heads => generator!(heads),
            Generator::LinearConditioned => generator!(linear.conditioned(width)),
            Generator::MlpConditioned => generator!(mlp([6], gelu).conditioned(width)),
            Generator::LowRankConditioned => generator!(low_rank(2).conditioned(width)),
            Generator::HeadsConditioned => generator!(heads.conditioned(width)),
            Generator::LinearCosSin => generator!(linear.conditioned(width).encoding(cos_sin)),
        };
        let num_params = embedding_params + generator_params;
        let conditions = (condition, generator_condition);
        Self { embedding, generator, conditions, shape, num_params }
    }

    /// Builds it.
    ///
    /// # Errors
    /// The network's own.
    pub fn build<T: HyperTarget<Config = ()>>(
        &self,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<DynamicHyperNetwork<T>> {
        let declared = Declared { name: "Hyper", shape: self.shape, scheme };
        let (plan, conditions) = (TargetPlan::new(&())?, self.conditions);
        DynamicHyperNetwork::new(
            plan,
            &declared,
            conditions,
            &*self.embedding,
            &*self.generator,
            vb,
        )
    }
}

/// A network of these kinds and sizes.
///
/// # Errors
/// The network's own.
pub fn network<T: HyperTarget<Config = ()> + FixedTarget>(
    kinds: (Embedding, Generator),
    sizes: Sizes,
    vb: VarBuilder<'_>,
) -> Result<DynamicHyperNetwork<T>> {
    Parts::new(kinds.0, kinds.1, sizes, T::NUM_PARAMS).build(InitScheme::Exact, vb)
}

/// Conditions of these leading dimensions, in 0..1 for a vector: a variable, where it has gradients.
///
/// # Errors
/// candle's own.
pub fn conditions(embedding: Embedding, dims: &[usize], width: usize, dtype: DType) -> Result<Var> {
    if embedding == Embedding::Tasks {
        let count = dims.iter().product::<usize>();
        let ids = (0..count).map(|i| (3 * i % NUM_TASKS) as u32).collect();
        return Var::from_vec(ids, dims, crate::device());
    }
    let dims: Vec<_> = dims.iter().copied().chain([width]).collect();
    let values = crate::input(&dims, 77, dtype)?.affine(0.5, 0.5)?;
    Var::from_tensor(&values)
}
