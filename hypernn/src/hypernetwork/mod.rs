//! The hypernetwork: embedding, weight generator and target in one.

mod vars;

pub mod checkpoint;

use std::sync::Arc;

use candle_core::{Module, ModuleT, Result, Tensor};
use candle_nn::VarBuilder;

use crate::check::ensure;
use crate::embedding::{Embedding, EmbeddingSpec};
use crate::generated::scale::Scales;
use crate::generated::{GeneratedParams, TargetPlan};
use crate::generator::{GeneratorShape, GeneratorSpec, WeightGenerator};
use crate::init::InitScheme;
use crate::plan::ChunkPlan;
use crate::target::layout::Layout;
use vars::Recorded;

/// What a hypernetwork computed on the way to the target's output.
#[derive(Clone, Debug)]
pub struct Aux<T> {
    /// The generated parameters.
    pub params: GeneratedParams<T>,
    /// The embeddings, `[N, E]`.
    pub embedding: Tensor,
}

/// The parts of a hypernetwork and their sizes, as `hypernetwork!` was given them.
pub struct Declaration<'a> {
    /// The hypernetwork's type name.
    pub name: &'static str,
    /// What follows `embedding:`.
    pub embedding: &'a dyn EmbeddingSpec,
    /// What follows `generator:`.
    pub generator: &'a dyn GeneratorSpec,
    /// Embeddings, their width and the chunks.
    pub shape: GeneratorShape,
    /// What follows `init:`.
    pub scheme: InitScheme,
}

/// A hypernetwork whose weights come from learned embeddings alone.
///
/// `hypernetwork!` with `mode: static` wraps it in a type of the user's own.
pub struct StaticHyperNetwork<T> {
    name: &'static str,
    parts: [String; 2],
    embedding: Box<dyn Embedding>,
    generator: Box<dyn WeightGenerator>,
    chunks: ChunkPlan,
    scales: Scales,
    plan: Arc<TargetPlan<T>>,
    buffers: Arc<[Tensor]>,
    /// Variables and what else a checkpoint holds, in the order of construction.
    vars: Vec<(String, Tensor)>,
}

impl<T> StaticHyperNetwork<T> {
    /// Builds the parts, with variables below `vb`: `embedding.…`, `generator.…`; `base.…` and
    /// `buffers.…` for what is kept but not trained.
    ///
    /// # Errors
    /// An invalid size, or the builder's own.
    pub fn new(
        plan: TargetPlan<T>,
        declaration: &Declaration<'_>,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        let plan = Arc::new(plan);
        ensure(declaration.shape.check())?;
        check_plan(&plan, &declaration.shape.plan)?;
        let (recorded, vb) = Recorded::new(vb);
        let scheme = declaration.scheme;
        let embedding = declaration.embedding.build(scheme, vb.pp("embedding"))?;
        let generator =
            declaration.generator.build(declaration.shape, scheme, vb.pp("generator"))?;
        let scales = scales(scheme, &plan.layout, &*embedding, &*generator, &vb.pp("base"))?;
        let buffers = buffers(&plan.layout, &vb.pp("buffers"))?;
        drop(vb);
        Ok(Self {
            name: declaration.name,
            parts: [declaration.embedding.to_string(), declaration.generator.to_string()],
            embedding,
            generator,
            chunks: declaration.shape.plan,
            scales,
            plan,
            buffers,
            vars: recorded.into_vec(),
        })
    }

    /// Generates the target's parameters: one set, `[P]`.
    ///
    /// # Errors
    /// candle's own.
    pub fn generate_params(&self) -> Result<GeneratedParams<T>> {
        self.generate_from(&self.embedding.forward()?)
    }

    fn generate_from(&self, embedding: &Tensor) -> Result<GeneratedParams<T>> {
        let generated = self.generator.forward(embedding)?;
        let plan = self.plan.clone();
        GeneratedParams::from_generated(plan, &generated, None, &self.scales, self.buffers.clone())
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
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor>
    where
        T: Module,
    {
        self.target()?.forward(xs)
    }

    /// Applies the target with parameters generated before.
    ///
    /// # Errors
    /// The target's own.
    pub fn forward_with(&self, params: &GeneratedParams<T>, xs: &Tensor) -> Result<Tensor>
    where
        T: Module,
    {
        params.unpack()?.forward(xs)
    }

    /// As [`forward`](Self::forward), for a target that behaves otherwise in training.
    ///
    /// # Errors
    /// The target's own.
    pub fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor>
    where
        T: ModuleT,
    {
        self.target()?.forward_t(xs, train)
    }

    /// As [`forward_with`](Self::forward_with), for a target that behaves otherwise in training.
    ///
    /// # Errors
    /// The target's own.
    pub fn forward_t_with(
        &self,
        params: &GeneratedParams<T>,
        xs: &Tensor,
        train: bool,
    ) -> Result<Tensor>
    where
        T: ModuleT,
    {
        params.unpack()?.forward_t(xs, train)
    }

    /// As [`forward`](Self::forward), and what was computed on the way.
    ///
    /// # Errors
    /// The target's own.
    pub fn forward_aux(&self, xs: &Tensor) -> Result<(Tensor, Aux<T>)>
    where
        T: Module,
    {
        let embedding = self.embedding.forward()?;
        let params = self.generate_from(&embedding)?;
        Ok((params.unpack()?.forward(xs)?, Aux { params, embedding }))
    }

    /// Which tensor of the target lies where in the flat vector.
    pub fn layout(&self) -> &Layout {
        &self.plan.layout
    }

    /// How the generated rows cover the flat vector.
    pub fn chunks(&self) -> ChunkPlan {
        self.chunks
    }

    /// The name and tensor of all that a checkpoint holds: the variables, then bases and buffers,
    /// which are not trained.
    pub fn named_tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.vars.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The number of trained values.
    pub fn num_params(&self) -> usize {
        let trained = self.named_tensors().filter(|(name, _)| is_trained(name));
        trained.map(|(_, tensor)| tensor.elem_count()).sum()
    }

    /// The number of the target's parameters.
    pub fn num_target_params(&self) -> usize {
        self.layout().num_params()
    }
}

fn is_trained(name: &str) -> bool {
    !name.starts_with("base.") && !name.starts_with("buffers.")
}

/// The plan covers this target.
fn check_plan<T>(plan: &TargetPlan<T>, chunks: &ChunkPlan) -> Result<()> {
    if chunks.num_params() != plan.num_params() {
        candle_core::bail!(
            "the plan is for {} parameters, but {} has {}: the const count of one of its specs is wrong",
            chunks.num_params(),
            plan.name,
            plan.num_params()
        );
    }
    Ok(())
}

fn scales(
    scheme: InitScheme,
    layout: &Layout,
    embedding: &dyn Embedding,
    generator: &dyn WeightGenerator,
    vb: &VarBuilder<'_>,
) -> Result<Scales> {
    match scheme {
        InitScheme::Exact => Scales::exact(layout, &generator.forward(&embedding.forward()?)?, vb),
        InitScheme::HyperNn => Ok(Scales::identity(layout)),
    }
}

fn buffers(layout: &Layout, vb: &VarBuilder<'_>) -> Result<Arc<[Tensor]>> {
    let buffer = |buffer: &crate::target::layout::BufferInfo| {
        vb.get_with_hints(buffer.shape.clone(), &buffer.name, buffer.init)
    };
    layout.buffers().iter().map(buffer).collect()
}

impl<T> std::fmt::Debug for StaticHyperNetwork<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (params, target_params) = (self.num_params(), self.num_target_params());
        let ratio = 100. * params as f64 / target_params as f64;
        let tensors = self.layout().params().len();
        let [embedding, generator] = &self.parts;
        let (rows, chunk, surplus) =
            (self.chunks.rows(), self.chunks.chunk(), self.chunks.surplus());
        f.debug_struct(self.name)
            .field(
                "target",
                &format_args!(
                    "{} ({target_params} parameters in {tensors} tensors)",
                    self.plan.name
                ),
            )
            .field("embedding", &format_args!("{embedding}"))
            .field("generator", &format_args!("{generator}"))
            .field("mode", &format_args!("static"))
            .field("chunks", &format_args!("{rows} of {chunk}, surplus {surplus}"))
            .field("parameters", &format_args!("{params} ({ratio:.1}% of the target's)"))
            .finish()
    }
}
