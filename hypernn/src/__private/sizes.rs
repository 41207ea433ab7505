//! The sizes of a declared hypernetwork.

use candle_core::Result;

use crate::check::{Problem, sum};
use crate::condition::Condition;
use crate::generator::GeneratorShape;
use crate::info::{EmbeddingInfo, GeneratorInfo};

/// The sizes of a declared hypernetwork.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Embeddings, their width and the chunks.
    pub shape: GeneratorShape,
    /// The number of the hypernetwork's own parameters, unless it depends on the target's layout.
    pub num_params: usize,
    /// Whether the generator's number of parameters depends on the target's layout.
    depends_on_layout: bool,
    /// What is wrong with the embedding, if anything.
    pub embedding: Option<Problem>,
    /// What is wrong with the generator, if anything.
    pub generator: Option<Problem>,
    /// What embedding and generator are conditioned on, where the hypernetwork is dynamic.
    pub conditions: Option<(Condition, Condition)>,
}

impl Sizes {
    /// What a generator takes that has one row for each embedding of a target with so many parameters.
    pub const fn shape(embedding: &EmbeddingInfo, num_target_params: usize) -> GeneratorShape {
        let EmbeddingInfo { num_embeddings, embedding_dim, .. } = *embedding;
        GeneratorShape::new(num_embeddings, embedding_dim, num_target_params)
    }

    /// The sizes of a hypernetwork, of what its embedding and its generator say of themselves.
    pub const fn new(
        embedding: EmbeddingInfo,
        shape: GeneratorShape,
        generator: GeneratorInfo,
        is_dynamic: bool,
    ) -> Self {
        let conditions = (embedding.condition, generator.condition);
        Self {
            shape: GeneratorShape { plan: generator.plan, ..shape },
            num_params: sum(&[embedding.num_params, generator.num_params]),
            depends_on_layout: generator.depends_on_layout,
            embedding: embedding.problem,
            generator: generator.problem,
            conditions: if is_dynamic { Some(conditions) } else { None },
        }
    }

    /// What is wrong with the embedding or with the rows for it. A target of no parameters has
    /// an error of its own, or has one in `new`.
    pub const fn rows(&self) -> Option<Problem> {
        if self.embedding.is_some() || self.shape.plan.num_params() == 0 {
            return self.embedding;
        }
        self.shape.check()
    }

    /// What is wrong with the generator, or with its condition beside the embedding's.
    pub const fn generator(&self) -> Option<Problem> {
        match (self.generator, self.conditions) {
            (None, Some((embedding, generator))) => Condition::check(embedding, generator),
            (problem, _) => problem,
        }
    }

    /// What is wrong with the generator where its number of parameters is to be a constant.
    pub const fn counted_generator(&self) -> Option<Problem> {
        match self.generator() {
            None if self.depends_on_layout => Some(Problem::new(
                "how many parameters this generator has depends on the names of the target's tensors, \
                 and is no constant: say by name what is generated, as in `roles: [(\"*\", generate)]`, \
                 and the method `num_params` counts them",
            )),
            problem => problem,
        }
    }

    /// Reports what is wrong.
    ///
    /// # Errors
    /// A part has an invalid size.
    pub fn ensure(&self) -> Result<()> {
        crate::check::ensure(self.rows())?;
        crate::check::ensure(self.generator())
    }

    /// The conditions of a dynamic hypernetwork.
    pub const fn conditions(&self) -> (Condition, Condition) {
        match self.conditions {
            Some(conditions) => conditions,
            None => (Condition::None, Condition::None),
        }
    }
}
