//! A learned table of embeddings.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Embedding, EmbeddingSpec};
use crate::check::{ensure, product, too_many, zero};
use crate::info::EmbeddingInfo;
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
    /// The table's sizes, and what is wrong with them, if anything.
    pub const fn info(&self) -> EmbeddingInfo {
        let (rows, width) = (self.num_embeddings, self.embedding_dim);
        EmbeddingInfo::new(rows, width)
            .params(product(&[rows, width]))
            .checked(zero("table", "num_embeddings", rows))
            .checked(zero("table", "embedding_dim", width))
            .checked(too_many("table", &[rows, width]))
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
        ensure(self.info().problem)?;
        let weight = init::table(scheme, self.num_embeddings, self.embedding_dim, &vb)?;
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
