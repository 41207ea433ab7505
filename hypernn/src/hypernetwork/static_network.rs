//! Hypernetworks whose weights come from learned embeddings alone.

use std::path::Path;

use candle_core::{DType, Result, Tensor, Var};
use candle_nn::VarBuilder;

use super::audit::Audit;
use super::core::{Building, Core, Declared, Parts};
use super::exact::ExactAudit;
use crate::embedding::{Embedding, EmbeddingSpec};
use crate::generated::{GeneratedParams, TargetPlan};
use crate::generator::{GeneratorSpec, WeightGenerator};
use crate::plan::ChunkPlan;
use crate::structure::layout::Layout;
use crate::structure::{ForwardTarget, ForwardTargetT};
use crate::trace::span;

/// What a static hypernetwork computed on the way to the target's output.
#[derive(Clone, Debug)]
pub struct Aux<T> {
    /// The generated parameters.
    pub params: GeneratedParams<T>,
    /// The embeddings, `[N, E]`.
    pub embedding: Tensor,
}

/// A hypernetwork whose weights come from learned embeddings alone.
///
/// `hypernetwork!` with `mode: static` wraps it in a type of the user's own.
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
        (embedding, generator): (&dyn EmbeddingSpec, &dyn GeneratorSpec),
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        let parts = Parts {
            embedding: embedding.to_string(),
            embedding_in_files: embedding.to_string(),
            generator: generator.to_string(),
            mode: "static",
        };
        let building = Building::new(plan, declared, parts, vb)?;
        let Declared { shape, scheme, .. } = *declared;
        let embedding = embedding.build(scheme, building.part("embedding"))?;
        let generator = generator.build(shape, scheme, building.part("generator"))?;
        let embedded = embedding.forward()?;
        let first = generator.forward(&embedded)?;
        building.check(&embedded, &first)?;
        Ok(Self { core: building.finish(Some(&first))?, embedding, generator })
    }

    /// The same with a target of this dtype; the hypernetwork's own variables, and their gradients,
    /// keep theirs.
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
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor>
    where
        T: ForwardTarget,
    {
        self.generate_params()?.forward(xs)
    }

    /// As [`forward`](Self::forward), for a target that behaves otherwise in training.
    ///
    /// # Errors
    /// The target's own.
    pub fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor>
    where
        T: ForwardTargetT,
    {
        self.generate_params()?.forward_t(xs, train)
    }

    /// As [`forward`](Self::forward), and what was computed on the way.
    ///
    /// # Errors
    /// The target's own.
    pub fn forward_aux(&self, xs: &Tensor) -> Result<(Tensor, Aux<T>)>
    where
        T: ForwardTarget,
    {
        let embedding = self.embedding.forward()?;
        let params = self.generate_from(&embedding)?;
        Ok((params.forward(xs)?, Aux { params, embedding }))
    }

    /// Which generated tensors and which variables get a gradient from `loss`, which was computed
    /// with `params`. The loss is not changed, and no variable is.
    ///
    /// # Errors
    /// The backward pass's own.
    pub fn audit(&self, params: &GeneratedParams<T>, loss: &Tensor) -> Result<Audit> {
        self.core.audit(params, loss)
    }

    /// What it shares with hypernetworks of the other kind.
    pub(super) fn core(&self) -> &Core<T> {
        &self.core
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

    /// Which tensor of the target lies where in the flat vector.
    pub fn layout(&self) -> &Layout {
        self.core.layout()
    }

    /// How the generated rows cover the flat vector.
    pub fn chunks(&self) -> ChunkPlan {
        self.core.chunks()
    }

    /// Looks for values that are NaN or infinite among all that a checkpoint holds, as those of a file
    /// may be: [`load`](Self::load) takes them as they are.
    ///
    /// # Errors
    /// A tensor has such values: its name, their number and the index of the first.
    pub fn check_finite(&self) -> Result<()> {
        self.core.check_finite()
    }

    /// The name and tensor of all that a checkpoint holds: the variables, then bases and buffers,
    /// which are not trained.
    pub fn named_tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.core.named_tensors()
    }

    /// The variables that are trained, each once, in the order of construction: what an optimiser
    /// takes. Bases and running statistics are left out, which a `VarMap` holds as well and gives by
    /// `all_vars`: an optimiser that decays or moves what has no gradient would change them.
    ///
    /// ```
    /// use candle_core::{DType, Device, Result, Tensor};
    /// use hypernn::nn::{AdamW, LayerNorm, Linear, Optimizer, VarBuilder, VarMap};
    /// use hypernn::{HyperTarget, hypernetwork};
    ///
    /// #[derive(HyperTarget)]
    /// #[hyper(sequential)]
    /// struct Net {
    ///     #[hyper(linear(4, 6))]
    ///     fc: Linear,
    ///     #[hyper(layer_norm(6))]
    ///     norm: LayerNorm,
    /// }
    ///
    /// hypernetwork! {
    ///     struct HyperNet for Net { embedding: table(7, 3), generator: linear, mode: static }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let vars = VarMap::new();
    /// let hyper = HyperNet::new(VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    /// // Table, weight and bias; the bases of the norm's two tensors are not trained.
    /// assert_eq!((hyper.trainable().len(), vars.all_vars().len()), (3, 5));
    /// let mut optimizer = AdamW::new_lr(hyper.trainable(), 0.01)?;
    /// let xs = Tensor::ones((2, 4), DType::F32, &Device::Cpu)?;
    /// optimizer.backward_step(&hyper.forward(&xs)?.sqr()?.mean_all()?)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn trainable(&self) -> Vec<Var> {
        self.core.trainable()
    }

    /// Takes a flat vector `[P]`, or `G` sets `[G, P]`, as parameters of this network's target, as
    /// [`GeneratedParams::flat`] gives it: values are taken as they are, and what is not generated is
    /// what this network keeps. It serves targets of every kind: with roles, over a pretrained network,
    /// with adapters, with a configuration, by constructor. Gradients flow into the vector.
    ///
    /// # Errors
    /// The vector's length, rank, dtype or device does not fit.
    pub fn params_from_flat(&self, flat: &Tensor) -> Result<GeneratedParams<T>> {
        self.core.params_from_flat(flat)
    }

    /// Reads parameters that [`GeneratedParams::save`] wrote: an adapter, say, for this network. They
    /// are as they were when they were saved, in their dtype, on this network's device; no gradient
    /// flows back. What is not generated is what this network keeps.
    ///
    /// # Errors
    /// The file is not a whole file of generated parameters of this target, was altered, or was saved
    /// over other trained or frozen tensors: the first difference is named.
    pub fn load_params(&self, path: impl AsRef<Path>) -> Result<GeneratedParams<T>> {
        self.core.load_params(path.as_ref())
    }

    /// The number of trained values.
    pub fn num_params(&self) -> usize {
        self.core.num_params()
    }

    /// The number of the target's generated parameters.
    pub fn num_target_params(&self) -> usize {
        self.layout().num_params()
    }

    /// Writes the hypernetwork's variables, bases and buffers.
    ///
    /// The file is written beside `path` under another name and then renamed, so that `path` never
    /// holds half a checkpoint.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.core.save(path.as_ref())
    }

    /// Reads what [`save`](Self::save) wrote, into the variables of this hypernetwork.
    ///
    /// # Errors
    /// The file is not a whole checkpoint of this target with these parts, or its tensors were
    /// altered; the first difference is named, and nothing has changed.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<()> {
        self.core.load(path.as_ref())
    }

    /// Reads a `state_dict` of the Python library hyper-nn: of its `TorchLinearHyperNetwork`, saved by
    /// `torch.save` or as safetensors.
    ///
    /// The declaration is the same network with `init: hyper_nn`: a `table`, the generator `linear`, or
    /// `mlp` for an `nn.Sequential` of linear layers and activations; and a target whose layers are
    /// in the order of PyTorch's. The outputs then are the same.
    /// Embeddings that feed no parameter, which hyper-nn allows, are left out.
    ///
    /// ```
    /// use std::collections::HashMap;
    ///
    /// use candle_core::{DType, Device, Result, Tensor};
    /// use hypernn::nn::{Linear, Module, VarBuilder, VarMap};
    /// use hypernn::{HyperTarget, hypernetwork};
    ///
    /// #[derive(HyperTarget)]
    /// #[hyper(sequential)]
    /// struct Net {
    ///     #[hyper(linear(2, 1))]
    ///     fc: Linear,
    /// }
    ///
    /// hypernetwork! {
    ///     struct HyperNet for Net {
    ///         embedding: table(3, 2), generator: linear, mode: static, init: hyper_nn,
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// // As `torch.save(hyper.state_dict(), …)` or safetensors has them.
    /// let table = Tensor::new(&[[1f32, 0.], [0., 1.], [1., 1.]], &Device::Cpu)?;
    /// let weight = Tensor::new(&[[2f32, 3.]], &Device::Cpu)?;
    /// let bias = Tensor::new(&[0.5f32], &Device::Cpu)?;
    /// let tensors = HashMap::from([
    ///     ("embedding_module.weight", table),
    ///     ("weight_generator.weight", weight),
    ///     ("weight_generator.bias", bias),
    /// ]);
    /// let path = std::env::temp_dir().join("hypernn_of_python.safetensors");
    /// candle_core::safetensors::save(&tensors, &path)?;
    ///
    /// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
    /// hyper.load_hyper_nn(&path)?;
    /// let flat = hyper.generate_params()?.flat()?;
    /// assert_eq!(flat.to_vec1::<f32>()?, [2.5, 3.5, 5.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The file can't be read, lacks a tensor, has one of another shape or one more; nothing has
    /// changed then.
    pub fn load_hyper_nn(&self, path: impl AsRef<Path>) -> Result<()> {
        self.core.load_hyper_nn(path.as_ref())
    }

    /// Writes the generated weights as an ordinary checkpoint of the target: its own names, its
    /// buffers included, no trace of the hypernetwork but a line of metadata.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn bake(&self, path: impl AsRef<Path>) -> Result<()> {
        self.core.bake(&self.generate_params()?, path.as_ref())
    }
}

impl<T> std::fmt::Debug for StaticHyperNetwork<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.core.fmt(f)
    }
}
