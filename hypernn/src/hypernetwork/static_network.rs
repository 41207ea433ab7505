//! Hypernetworks whose weights come from learned embeddings alone.

use std::ops::Deref;
use std::path::Path;

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::core::{Building, Core, Declared, PartNames};
use super::exact_audit::ExactAudit;
use super::scales::FirstOutput;
use crate::condition::Condition;
use crate::embedding::{Embedding, EmbeddingSpec};
use crate::generated::{GeneratedParams, StreamedParams, TargetPlan};
use crate::generator::{GeneratorSpec, WeightGenerator};
use crate::structure::layout::ParamInfo;
use crate::structure::{ForwardTarget, ForwardTargetT, Outputs};
use crate::trace::span;

/// What a static hypernetwork computed on the way to the target's output.
#[derive(Debug)]
#[non_exhaustive]
pub struct Aux<T> {
    /// The generated parameters.
    pub params: GeneratedParams<T>,
    /// The embeddings, `[N, E]`.
    pub embedding: Tensor,
}

impl<T> Clone for Aux<T> {
    fn clone(&self) -> Self {
        let Self { params, embedding } = self;
        Self { params: params.clone(), embedding: embedding.clone() }
    }
}

/// A hypernetwork whose weights come from learned embeddings alone.
///
/// `hypernetwork!` with `mode: static` wraps it in a type of the user's own, which derefs to it; it derefs to
/// [`Core`], which has what hypernetworks of every kind have.
pub struct StaticHyperNetwork<T> {
    core: Core<T>,
    embedding: Box<dyn Embedding>,
    generator: Box<dyn WeightGenerator>,
}

impl<T> StaticHyperNetwork<T> {
    /// Builds the parts, with variables below `vb`: `embedding.…`, `generator.…`, `target.…` for
    /// tensors that are trained themselves; `base.…` and `buffers.…` for what is kept but not trained.
    ///
    /// # Errors
    /// An invalid size, or the builder's own.
    pub fn new(
        plan: TargetPlan<T>,
        declared: &Declared,
        embedding: &dyn EmbeddingSpec,
        generator: &dyn GeneratorSpec,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        let parts = PartNames {
            embedding: embedding.to_string(),
            embedding_in_files: embedding.to_string(),
            generator: generator.to_string(),
            mode: "static",
            conditions: (Condition::None, Condition::None),
        };
        let building = Building::new(plan, declared, parts, vb)?;
        let Declared { shape, scheme, .. } = *declared;
        let embedding = embedding.build(scheme, building.part("embedding"))?;
        let generator =
            generator.build_for(building.layout(), shape, scheme, building.part("generator"))?;
        let embedded = embedding.forward()?;
        let first = generator.forward(&embedded)?;
        building.check(&embedded, &first)?;
        let is_zero = |param: &ParamInfo| generator.starts_at_zero(param);
        let first = FirstOutput { all: Some(&first), is_zero: &is_zero };
        Ok(Self { core: building.finish(first)?, embedding, generator })
    }

    /// This hypernetwork, with a target that computes in `dtype`: generated tensors, inputs and outputs have
    /// it. The hypernetwork's own variables, and their gradients, keep theirs.
    ///
    /// The usual choice is a hypernetwork in f32 whose target runs in bf16: what is generated is scaled
    /// in f32 and cast once, and the gradients of the target's tensors are cast back before they are
    /// added up. The target's input has the target's dtype.
    ///
    /// Running statistics that `candle_nn::BatchNorm` changes go on as variables of the dtype in which it
    /// computes, f32 for a target in half precision: `save` writes them, and those of before, in the
    /// `VarMap`, stay as they are. (In half precision candle's layer wants them in f32 in training and in the
    /// target's dtype otherwise: take it by `forward_t`, or by `unpack_t`.)
    ///
    /// # Errors
    /// The dtype is none of f16, bf16, f32 and f64.
    pub fn with_target_dtype(self, dtype: DType) -> Result<Self> {
        Ok(Self { core: self.core.with_target_dtype(dtype)?, ..self })
    }

    /// Generates the target's parameters: one set, `[P]`.
    ///
    /// # Errors
    /// candle's own.
    pub fn generate_params(&self) -> Result<GeneratedParams<T>> {
        self.generate_from(&self.embedding.forward()?)
    }

    /// The target's parameters, each of which is generated when a layer asks for it: for a target that does not fit into
    /// memory, where nothing is to be learned. See [`StreamedParams`].
    ///
    /// # Errors
    /// candle's own.
    pub fn stream_params(&self) -> Result<StreamedParams<T>> {
        let embedding = self.embedding.forward()?;
        self.core.checks().check_embedding(&embedding)?;
        self.core.stream(&self.generator.forward(&embedding)?, None)
    }

    fn generate_from(&self, embedding: &Tensor) -> Result<GeneratedParams<T>> {
        span!("generate", self.core.name);
        self.core.checks().check_embedding(embedding)?;
        self.core.generate(&self.generator.forward(embedding)?, None)
    }

    /// An ordinary target over freshly generated parameters, for any method of its own; gradients
    /// flow back to the hypernetwork.
    ///
    /// # Errors
    /// candle's own, or the target's.
    pub fn target(&self) -> Result<T> {
        self.generate_params()?.unpack()
    }

    /// Generates the parameters and applies the target.
    ///
    /// # Errors
    /// The target's own.
    pub fn forward<O: Outputs>(&self, xs: &Tensor) -> Result<O>
    where
        T: ForwardTarget<Output = O>,
    {
        self.generate_params()?.forward(xs)
    }

    /// Generates the parameters and applies a target that behaves otherwise in training.
    ///
    /// # Errors
    /// The target's own.
    pub fn forward_t<O: Outputs>(&self, xs: &Tensor, train: bool) -> Result<O>
    where
        T: ForwardTargetT<Output = O>,
    {
        self.generate_params()?.forward_t(xs, train)
    }

    /// Generates the parameters and applies the target. Returns the output, and the embeddings and parameters
    /// that were computed on the way.
    ///
    /// # Errors
    /// The target's own.
    pub fn forward_aux<O: Outputs>(&self, xs: &Tensor) -> Result<(O, Aux<T>)>
    where
        T: ForwardTarget<Output = O>,
    {
        let embedding = self.embedding.forward()?;
        let params = self.generate_from(&embedding)?;
        Ok((params.forward(xs)?, Aux { params, embedding }))
    }

    /// Whether each generated tensor and each variable gets the gradient that a loss has, beside
    /// differences of the loss. `loss` computes it from parameters that it is given; see [`ExactAudit`].
    /// Variables are moved meanwhile, and are the same afterwards.
    ///
    /// # Errors
    /// The loss's own, one that is not finite, or one that is not the same twice for the same parameters.
    pub fn audit_exact(
        &self,
        mut loss: impl FnMut(&GeneratedParams<T>) -> Result<Tensor>,
    ) -> Result<ExactAudit> {
        self.core.audit_exact(&mut || self.generate_params(), &mut loss)
    }

    /// Writes the generated weights as an ordinary checkpoint of the target: its own names, its
    /// buffers included, no trace of the hypernetwork but a line of metadata.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn export(&self, path: impl AsRef<Path>) -> Result<()> {
        self.core.export_params(&self.generate_params()?, path)
    }
}

/// Layout, variables and files are those that every hypernetwork has.
impl<T> Deref for StaticHyperNetwork<T> {
    type Target = Core<T>;

    fn deref(&self) -> &Core<T> {
        &self.core
    }
}

impl<T: Module> Module for StaticHyperNetwork<T> {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        Self::forward(self, xs)
    }
}

impl<T> std::fmt::Debug for StaticHyperNetwork<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.core, f)
    }
}
