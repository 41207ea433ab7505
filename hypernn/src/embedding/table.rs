//! A learned table of embeddings.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Embedding, EmbeddingSpec};
use crate::check::{Problem, ensure, first, product, too_many, zero};
use crate::condition::Condition;
use crate::init::{self, InitScheme};

/// `embedding: table(num_embeddings, embedding_dim)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct TableSpec {
    num_embeddings: usize,
    embedding_dim: usize,
}

/// `embedding: table(num_embeddings, embedding_dim)`: a learned table.
pub const fn table(num_embeddings: usize, embedding_dim: usize) -> TableSpec {
    TableSpec { num_embeddings, embedding_dim }
}

impl TableSpec {
    /// `N`, the number of rows.
    pub const fn num_embeddings(&self) -> usize {
        self.num_embeddings
    }

    /// `E`, the width of a row.
    pub const fn embedding_dim(&self) -> usize {
        self.embedding_dim
    }

    /// Nothing: it comes from its variables alone.
    pub const fn condition(&self) -> Condition {
        Condition::None
    }

    /// The number of its variables' values.
    pub const fn num_params(&self) -> usize {
        product(&[self.num_embeddings, self.embedding_dim])
    }

    /// What is wrong with the sizes, if anything.
    pub const fn check(&self) -> Option<Problem> {
        first(&[
            zero("table", "num_embeddings", self.num_embeddings),
            zero("table", "embedding_dim", self.embedding_dim),
            too_many("table", &[self.num_embeddings, self.embedding_dim]),
        ])
    }
}

impl std::fmt::Display for TableSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "table({}, {})", self.num_embeddings, self.embedding_dim)
    }
}

#[diagnostic::do_not_recommend]
impl EmbeddingSpec for TableSpec {
    /// One variable, `weight` `[N, E]`: normal rows of mean square exactly one; standard normal as
    /// drawn under [`InitScheme::HyperNn`].
    fn build(&self, scheme: InitScheme, vb: VarBuilder<'_>) -> Result<Box<dyn Embedding>> {
        ensure(self.check())?;
        let dims = (self.num_embeddings, self.embedding_dim);
        let weight = init::table(scheme, dims, &vb)?;
        Ok(Box::new(Table { weight }))
    }
}

/// A learned table, `[N, E]`.
#[derive(Clone, Debug)]
pub struct Table {
    weight: Tensor,
}

impl Embedding for Table {
    fn forward(&self) -> Result<Tensor> {
        Ok(self.weight.clone())
    }
}
