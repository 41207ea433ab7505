//! What embeddings of sequences are built of: attention and perceptrons with norms in front, on a residual stream.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use crate::check::{Problem, ensure, product, sum, too_many, too_many_together, zero};
use crate::condition::{Condition, Sequences};
use crate::init::InitScheme;
use crate::mlp::Activation;
use crate::nn::{
    AttentionMask, Linear, RmsNorm, Rotary, RotaryConfig, RotaryConvention, RotaryScaling,
    RotaryTables, attention, rms_norm,
};
use crate::ops::product::repeat_rows;

/// What norms add to a mean square.
const EPS: f64 = 1e-6;

/// The fewest positions that rotary angles are computed for.
const FEWEST_POSITIONS: usize = 64;

/// The base of rotary frequencies.
const THETA: f64 = 10_000.;

/// How many times as wide as the stream a perceptron's hidden layer is.
const WIDER: usize = 4;

/// Whether the order of the vectors matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Positions {
    /// It does not: the condition is a set.
    #[default]
    Unordered,
    /// It does: the condition is a sequence, and queries and keys are turned by the position of their vector (Su et al.
    /// 2021, *RoFormer*). Padding has no position, wherever it lies.
    Rotary,
}

/// `.positions(unordered)`.
#[allow(non_upper_case_globals)]
pub const unordered: Positions = Positions::Unordered;
/// `.positions(rotary)`.
#[allow(non_upper_case_globals)]
pub const rotary: Positions = Positions::Rotary;

impl Positions {
    /// How it is written.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unordered => "unordered",
            Self::Rotary => "rotary",
        }
    }

    /// The condition of an embedding of vectors of this width.
    pub(super) const fn condition(self, width: usize) -> Condition {
        match self {
            Self::Unordered => Condition::Set(width),
            Self::Rotary => Condition::Sequence(width),
        }
    }

    /// The angles of so many positions, for heads of this width.
    pub(super) fn angles(self, length: usize, head_dim: usize, like: &Tensor) -> Result<Angles> {
        if self == Self::Unordered {
            return Ok(Angles(None));
        }
        let config = RotaryConfig {
            head_dim,
            max_positions: FEWEST_POSITIONS,
            theta: THETA,
            scaling: RotaryScaling::None,
            convention: RotaryConvention::Halves,
        };
        let tables = RotaryTables::shared(&config);
        let angles = tables.up_to(length, like.dtype(), like.device())?;
        Ok(Angles(Some(angles)))
    }
}

/// The angles of positions, where they matter.
#[derive(Clone, Debug)]
pub(super) struct Angles(Option<Rotary>);

impl Angles {
    /// Of what has no positions.
    pub(super) const NONE: Self = Self(None);

    /// Heads `[G, H, T, D]` at the positions `0..T`.
    fn apply(&self, heads: Tensor) -> Result<Tensor> {
        self.0.as_ref().map_or(Ok(heads.clone()), |angles| angles.apply(&heads.contiguous()?, 0))
    }
}

/// The sizes of an embedding with attention: what all of its blocks share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// The embedding's name, for messages.
    pub(super) name: &'static str,
    /// Of the vectors of the condition.
    pub(super) width: usize,
    pub(super) num_embeddings: usize,
    pub(super) embedding_dim: usize,
    pub(super) depth: usize,
    pub(super) heads: usize,
    pub(super) positions: Positions,
}

impl Sizes {
    /// The number of values of attention from the stream to vectors of width `keys`, with its norm.
    pub(super) const fn attention(&self, keys: usize) -> usize {
        let dim = self.embedding_dim;
        sum(&[dim, product(&[2, dim, dim]), product(&[2, dim, keys])])
    }

    /// The number of values of a perceptron, with its norm.
    pub(super) const fn perceptron(&self) -> usize {
        sum(&[self.embedding_dim, product(&[2, WIDER, self.embedding_dim, self.embedding_dim])])
    }

    /// The width of a head.
    pub(super) const fn head_dim(&self) -> usize {
        match self.embedding_dim.checked_div(self.heads) {
            Some(width) => width,
            None => 0,
        }
    }

    /// What is wrong with the sizes of an embedding of so many values, if anything.
    pub(super) const fn check(&self, num_params: usize) -> Option<Problem> {
        let Self { name, width, num_embeddings, embedding_dim, depth, heads, .. } = *self;
        crate::check::first(&[
            zero(name, "width", width),
            zero(name, "num_embeddings", num_embeddings),
            zero(name, "embedding_dim", embedding_dim),
            zero(name, "depth", depth),
            zero(name, "heads", heads),
            self.check_heads(),
            too_many(name, &[num_embeddings, embedding_dim]),
            too_many(name, &[embedding_dim, width]),
            too_many(name, &[WIDER, embedding_dim, embedding_dim]),
            too_many_together(name, num_params),
        ])
    }

    /// Heads share the stream out, and angles turn pairs of values.
    const fn check_heads(&self) -> Option<Problem> {
        let Self { name, embedding_dim, heads, .. } = *self;
        let problem = Problem::new(name).text(": embedding_dim is ").number(embedding_dim);
        if heads > 0 && embedding_dim % heads != 0 {
            let problem = problem.text(", expected a multiple of the ").number(heads);
            return Some(problem.text(" heads"));
        }
        if matches!(self.positions, Positions::Rotary) && !self.head_dim().is_multiple_of(2) {
            let problem = problem.text(", expected a multiple of twice the ").number(heads);
            return Some(problem.text(" heads: positions turn pairs of values"));
        }
        None
    }
}

/// What blocks are built from.
#[derive(Clone)]
pub(super) struct Builder<'a> {
    sizes: Sizes,
    scheme: InitScheme,
    /// How many blocks add to the stream: each starts with so small a share of its variance.
    blocks: usize,
    vb: VarBuilder<'a>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(sizes: Sizes, scheme: InitScheme, blocks: usize, vb: VarBuilder<'a>) -> Self {
        Self { sizes, scheme, blocks, vb }
    }

    pub(super) fn pp(&self, name: impl ToString) -> Self {
        Self { vb: self.vb.pp(name), ..self.clone() }
    }

    pub(super) fn embedding_dim(&self) -> usize {
        self.sizes.embedding_dim
    }

    pub(super) fn norm(&self, name: &str, width: usize) -> Result<RmsNorm> {
        rms_norm(width, EPS, self.vb.pp(name))
    }

    /// A linear layer without bias, over values of mean square one.
    pub(super) fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        self.linear_behind(name, inputs, outputs, 1.)
    }

    fn linear_behind(
        &self,
        name: &str,
        inputs: usize,
        outputs: usize,
        second_moment: f64,
    ) -> Result<Linear> {
        ensure(too_many(self.sizes.name, &[outputs, inputs]))?;
        let init = self.scheme.weight(inputs, second_moment);
        let weight = self.vb.pp(name).get_with_hints((outputs, inputs), "weight", init)?;
        Ok(Linear::new(weight, None))
    }

    /// The learned queries, `[N, E]`.
    pub(super) fn queries(&self, name: &str) -> Result<Tensor> {
        let Sizes { num_embeddings, embedding_dim, .. } = self.sizes;
        crate::init::table(self.scheme, num_embeddings, embedding_dim, &self.vb.pp(name))
    }
}

/// Attention from the stream, with its norm: what it adds to the stream.
#[derive(Clone, Debug)]
pub(super) struct AttentionBlock {
    norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
    head_dim: usize,
}

/// The vectors that are attended to.
pub(super) struct Attended<'a> {
    /// `[G, T, K]`; the stream itself, behind the block's norm, where there are none.
    pub(super) vectors: Option<&'a Tensor>,
    pub(super) mask: &'a AttentionMask,
    /// Of the vectors, and of the stream where it attends to itself.
    pub(super) angles: &'a Angles,
}

impl AttentionBlock {
    /// Variables `norm.weight`, `query.weight`, `key.weight`, `value.weight` and `out.weight`, for vectors of width
    /// `keys`.
    pub(super) fn new(keys: usize, vb: &Builder<'_>) -> Result<Self> {
        let Sizes { embedding_dim: dim, heads, .. } = vb.sizes;
        Ok(Self {
            norm: vb.norm("norm", dim)?,
            query: vb.linear("query", dim, dim)?,
            key: vb.linear("key", keys, dim)?,
            value: vb.linear("value", keys, dim)?,
            out: vb.linear_behind("out", dim, dim, vb.blocks as f64)?,
            heads,
            head_dim: vb.sizes.head_dim(),
        })
    }

    /// `[G, N, E]` to `[G, N, E]`.
    pub(super) fn forward(&self, stream: &Tensor, attended: &Attended<'_>) -> Result<Tensor> {
        let normed = self.norm.forward(stream)?;
        let (queries, vectors) = (self.by_head(&self.query.forward(&normed)?)?, attended.vectors);
        // Learned queries have no position.
        let queries = match vectors {
            None => attended.angles.apply(queries)?,
            Some(_) => queries,
        };
        let vectors = vectors.unwrap_or(&normed);
        let keys = attended.angles.apply(self.by_head(&self.key.forward(vectors)?)?)?;
        let values = self.by_head(&self.value.forward(vectors)?)?;
        let scale = (self.head_dim as f64).sqrt().recip();
        let found = attention(&queries, &keys, &values, attended.mask, scale)?;
        let found = found.transpose(1, 2)?.flatten_from(2)?;
        stream + self.out.forward(&found)?
    }

    /// `[G, T, E]` to `[G, H, T, D]`.
    fn by_head(&self, xs: &Tensor) -> Result<Tensor> {
        let (sets, length, _) = xs.dims3()?;
        xs.reshape((sets, length, self.heads, self.head_dim))?.transpose(1, 2)
    }
}

/// A perceptron of one hidden layer, vector by vector, with its norm.
#[derive(Clone, Debug)]
pub(super) struct PerceptronBlock {
    norm: RmsNorm,
    hidden: Linear,
    out: Linear,
}

impl PerceptronBlock {
    const ACTIVATION: Activation = Activation::Gelu;

    /// Variables `norm.weight`, `hidden.weight` and `out.weight`.
    pub(super) fn new(vb: &Builder<'_>) -> Result<Self> {
        let dim = vb.sizes.embedding_dim;
        let second_moment = Self::ACTIVATION.second_moment() * vb.blocks as f64;
        Ok(Self {
            norm: vb.norm("norm", dim)?,
            hidden: vb.linear("hidden", dim, WIDER * dim)?,
            out: vb.linear_behind("out", WIDER * dim, dim, second_moment)?,
        })
    }

    /// `[G, N, E]` to `[G, N, E]`.
    pub(super) fn forward(&self, stream: &Tensor) -> Result<Tensor> {
        let hidden =
            Self::ACTIVATION.forward(&self.hidden.forward(&self.norm.forward(stream)?)?)?;
        stream + self.out.forward(&hidden)?
    }
}

/// `[N, E]` for each of `G` sets.
pub(super) fn for_each_set(queries: &Tensor, sets: usize) -> Result<Tensor> {
    let (rows, width) = queries.dims2()?;
    repeat_rows(&queries.flatten_all()?.unsqueeze(0)?, sets)?.reshape((sets, rows, width))
}

/// The mask of padding among keys.
pub(super) fn key_mask(sequences: &Sequences) -> Result<AttentionMask> {
    let mask = sequences.mask()?;
    Ok(mask.map_or_else(AttentionMask::none, |mask| AttentionMask::none().with_keys(&mask)))
}
