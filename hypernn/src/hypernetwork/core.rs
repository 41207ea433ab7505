//! What static and dynamic hypernetworks share: the target's plan, the chunks, the scales and what a
//! checkpoint holds.

use std::collections::HashSet;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use hypernn_kernels::heap::keep_large_buffers;

use super::expected_outputs::ExpectedOutputs;
use super::scales::FirstOutput;
use super::vars::TakenVariables;
use crate::check::{ensure, ensure_floating, ensure_same_device};
use crate::condition::Condition;
use crate::error::bail;
use crate::finite::ensure_finite;
use crate::generated::scale::Scales;
use crate::generated::{GeneratedParams, Kept, StreamedParams, TargetPlan};
use crate::generator::{GeneratorOutput, GeneratorShape};
use crate::init::{InitScheme, computed};
use crate::memory::ensure_room;
use crate::ops::internal;
use crate::param::KeptTensor;
use crate::plan::ChunkPlan;
use crate::pretrained::InitialValues;
use crate::structure::layout::{KeptInfo, Layout};
use crate::structure::role::Role;
use crate::structure::source::BufferDtype;
use crate::structure::value::{Values, stored};

/// The sizes of a hypernetwork, and its name for messages and files.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    /// The hypernetwork's type name.
    pub name: &'static str,
    /// Embeddings, their width and the chunks.
    pub shape: GeneratorShape,
    /// How the generated tensors start.
    pub scheme: InitScheme,
}

/// How many names `Debug` lists.
const SHOWN: usize = 4;

/// What every hypernetwork has, whatever its weights depend on: its layout, variables and files.
///
/// [`StaticHyperNetwork`](super::StaticHyperNetwork) and [`DynamicHyperNetwork`](super::DynamicHyperNetwork)
/// deref to it, and so does each type that [`hypernetwork!`](macro@crate::hypernetwork) emits: its methods
/// are called on them. Code that is generic over [`Hypernetwork`](super::Hypernetwork) has it as `core()`.
pub struct Core<T> {
    pub(super) name: &'static str,
    pub(super) parts: PartNames,
    shape: GeneratorShape,
    pub(super) scheme: InitScheme,
    scales: Scales,
    pub(super) plan: Arc<TargetPlan<T>>,
    pub(super) kept: Kept,
    /// Variables and what else a checkpoint holds, in the order of construction.
    vars: Vec<(String, Tensor)>,
    /// The dtype and device of its builder, for where there are none.
    of_builder: (DType, Device),
}

/// What was written after `embedding:`, `generator:` and `mode:`.
pub(super) struct PartNames {
    pub(super) embedding: String,
    /// The embedding as checkpoints name it.
    pub(super) embedding_in_files: String,
    pub(super) generator: String,
    pub(super) mode: &'static str,
    /// What embedding and generator are conditioned on.
    pub(super) conditions: (Condition, Condition),
}

/// A core whose variables are still being taken.
pub(super) struct Building<'a, T> {
    core: Core<T>,
    recorded: TakenVariables,
    vb: VarBuilder<'a>,
}

impl<'a, T> Building<'a, T> {
    pub(super) fn new(
        plan: TargetPlan<T>,
        declared: &Declared,
        parts: PartNames,
        vb: VarBuilder<'a>,
    ) -> Result<Self> {
        ensure(declared.shape.check())?;
        ensure_floating(vb.dtype(), || declared.name.to_owned())?;
        if vb.device().is_cpu() {
            keep_large_buffers();
        }
        let plan = Arc::new(plan);
        check_plan(&plan, &declared.shape.plan)?;
        let of_builder = (vb.dtype(), vb.device().clone());
        let (recorded, vb) = TakenVariables::new(vb);
        let core = Core {
            name: declared.name,
            parts,
            shape: declared.shape,
            scheme: declared.scheme,
            scales: Scales::identity(&plan.layout),
            plan,
            kept: Kept::default(),
            vars: Vec::new(),
            of_builder,
        };
        Ok(Self { core, recorded, vb })
    }

    /// The builder of one part's variables.
    pub(super) fn part(&self, name: &str) -> VarBuilder<'a> {
        self.vb.pp(name)
    }

    /// Whether the parts of a static hypernetwork give what their specs say.
    pub(super) fn check(&self, embedding: &Tensor, output: &GeneratorOutput) -> Result<()> {
        let first = self.recorded.first();
        let like = first.as_ref().map(|first| (first.dtype(), first.device()));
        let (dtype, device) = &self.core.of_builder;
        let expected = self.core.expected_outputs(like.unwrap_or((*dtype, device)));
        expected.check_embedding(embedding)?;
        expected.check_output(output, None)
    }

    /// Which tensors are generated.
    pub(super) fn layout(&self) -> &Layout {
        self.core.layout()
    }

    pub(super) fn finish(self, first: FirstOutput<'_>) -> Result<Core<T>> {
        let Self { mut core, recorded, vb } = self;
        let (layout, initial_values) = (&core.plan.layout, &core.plan.initial_values);
        core.scales = Scales::new(core.scheme, layout, initial_values, first, &vb)?;
        core.kept = Kept {
            params: kept(layout, initial_values, &vb.pp("target"))?,
            buffers: buffers(layout, initial_values, &vb.pp("buffers"))?,
            buffer_sets: None,
            values: values(&core.plan.values, &vb.pp("buffers"))?,
            hashes: Arc::default(),
        };
        core.check_builder(&vb)?;
        drop(vb);
        core.vars = recorded.into_vec();
        Ok(core)
    }
}

impl<T> Core<T> {
    pub(super) fn generate(
        &self,
        output: &GeneratorOutput,
        sets: Option<usize>,
    ) -> Result<GeneratedParams<T>> {
        self.checks().check_output(output, sets)?;
        let (count, values) = (sets.unwrap_or(1), self.shape.plan.num_values());
        let what = || format!("what {} generates,", self.name);
        let (dtype, device) = self.kind();
        ensure_room(what, &[count, values], dtype, device)?;
        let (plan, kept) = (self.plan.clone(), self.kept.clone());
        GeneratedParams::from_generated(plan, output, sets, &self.scales, kept)
    }

    /// What is generated when a layer asks for it.
    pub(super) fn stream(
        &self,
        output: &GeneratorOutput,
        sets: Option<usize>,
    ) -> Result<StreamedParams<T>> {
        self.checks().check_output(output, sets)?;
        StreamedParams::new(self.plan.clone(), output, sets, &self.scales, &self.kept)
    }

    fn expected_outputs<'a>(&'a self, kind: (DType, &'a Device)) -> ExpectedOutputs<'a> {
        ExpectedOutputs { network: self.name, parts: &self.parts, shape: self.shape, kind }
    }

    /// The shapes that the embedding and the generator have to give.
    pub(super) fn checks(&self) -> ExpectedOutputs<'_> {
        self.expected_outputs(self.kind())
    }

    /// Looks for values that are NaN or infinite among all that a checkpoint holds, as those of a file
    /// may be: [`load`](Self::load) takes them as they are.
    ///
    /// # Errors
    /// A tensor has such values: its name, their number and the index of the first.
    pub fn check_finite(&self) -> Result<()> {
        self.named_tensors().try_for_each(|(name, tensor)| {
            ensure_finite(|| format!("`{name}` of {}", self.name), tensor)
        })
    }

    /// These parts, with generated tensors, frozen tensors and buffers in `dtype`.
    pub(super) fn with_target_dtype(self, dtype: DType) -> Result<Self> {
        if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
            bail!(dtype, "the target's dtype is {dtype:?}, expected one of f16, bf16, f32 and f64");
        }
        let mut core = Self { scales: self.scales.with_dtype(dtype), ..self };
        core.convert_frozen(dtype)?;
        core.convert_buffers(internal(dtype))?;
        Ok(core)
    }

    /// Frozen tensors are those of the target: converted once, and not whenever it is built.
    fn convert_frozen(&mut self, dtype: DType) -> Result<()> {
        let kept = self.plan.layout.kept().iter().zip(self.kept.params.iter()).enumerate();
        // Always from the start, so that a second choice of a dtype costs no digits.
        let converted = kept.map(|(index, (info, tensor))| match info.role {
            Role::Freeze => self.plan.initial_values.kept(index).unwrap_or(tensor).to_dtype(dtype),
            _ => Ok(tensor.clone()),
        });
        self.kept.params = converted.collect::<Result<_>>()?;
        Ok(())
    }

    /// candle's layers change running statistics in the dtype in which they compute. Where that is
    /// another, the statistics go on as other variables, which a checkpoint then holds.
    fn convert_buffers(&mut self, dtype: DType) -> Result<()> {
        let infos = self.plan.layout.buffers();
        let mut buffers = self.kept.buffers.to_vec();
        for (info, buffer) in infos.iter().zip(&mut buffers) {
            if info.dtype != BufferDtype::Params || buffer.dtype() == dtype {
                continue;
            }
            let converted = Var::from_tensor(&buffer.to_dtype(dtype)?)?.into_inner();
            let held = self.vars.iter_mut().find(|(_, tensor)| tensor.id() == buffer.id());
            held.into_iter().for_each(|(_, tensor)| *tensor = converted.clone());
            *buffer = converted;
        }
        self.kept.buffers = buffers.into();
        Ok(())
    }

    /// The dtype of generated tensors, where it was chosen.
    pub(super) fn target_dtype(&self) -> Option<DType> {
        self.scales.plan().dtype()
    }

    /// Which tensor of the target lies where in the flat vector.
    pub fn layout(&self) -> &Layout {
        &self.plan.layout
    }

    /// How the generated rows cover the flat vector.
    pub fn chunks(&self) -> ChunkPlan {
        self.shape.plan
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
        let mut seen = HashSet::new();
        let trained = self.named_tensors().filter(|(name, tensor)| {
            is_trained(name) && tensor.is_variable() && seen.insert(tensor.id())
        });
        // Of a variable's tensor this is the variable, and can't fail.
        trained.filter_map(|(_, tensor)| Var::from_tensor(tensor).ok()).collect()
    }

    /// Takes a flat vector `[P]`, or `G` sets `[G, P]`, as parameters of this network's target, as
    /// [`GeneratedParams::flat`] gives it: values are taken as they are, and what is not generated is
    /// what this network keeps. It serves targets of every kind: with roles, over a pretrained network,
    /// with adapters, with a configuration, by constructor. Gradients flow into the vector.
    ///
    /// # Errors
    /// The vector's length, rank, dtype or device does not fit.
    pub fn params_from_flat(&self, flat: &Tensor) -> Result<GeneratedParams<T>> {
        let (_, device) = self.kind();
        ensure_same_device(
            "the flat vector",
            flat.device().location(),
            "the hypernetwork",
            device.location(),
        )?;
        GeneratedParams::from_flat_and_kept(self.plan.clone(), flat, self.kept.clone())
    }

    /// The number of the target's generated parameters.
    pub fn num_target_params(&self) -> usize {
        self.layout().num_params()
    }

    /// The dtype and device of the variables.
    pub(crate) fn kind(&self) -> (DType, &Device) {
        match self.vars.first() {
            Some((_, var)) => (var.dtype(), var.device()),
            None => (self.of_builder.0, &self.of_builder.1),
        }
    }

    /// Takes more variables of a part, as a growing embedding does.
    pub(super) fn extend(
        &mut self,
        part: &str,
        vb: VarBuilder<'_>,
        take: impl FnOnce(InitScheme, VarBuilder<'_>) -> Result<()>,
    ) -> Result<()> {
        let (dtype, device) = self.kind();
        ensure_same_device(
            "the builder",
            vb.device().location(),
            "the hypernetwork",
            device.location(),
        )?;
        if vb.dtype() != dtype {
            bail!(dtype, "the builder is {:?}, but the hypernetwork {dtype:?}", vb.dtype());
        }
        let (recorded, vb) = TakenVariables::new(vb);
        take(self.scheme, vb.pp(part))?;
        drop(vb);
        self.vars.extend(recorded.into_vec());
        Ok(())
    }

    /// The numbers of values that are trained and frozen, where there are such.
    fn kept_counts(&self) -> String {
        let count = |role| {
            let kept = self.layout().kept().iter().filter(|kept| kept.role == role);
            kept.map(|kept| kept.shape.elem_count()).sum::<usize>()
        };
        let text = |role: Role| match count(role) {
            0 => String::new(),
            count => format!(", {} {count}", role.name()),
        };
        text(Role::Train) + &text(Role::Freeze)
    }

    /// The first names that the target's constructor looked for in vain.
    fn absent(&self) -> Option<String> {
        let absent = self.layout().absent();
        let shown = absent.iter().take(SHOWN).map(|name| format!("`{name}`"));
        let shown = shown.collect::<Vec<_>>().join(", ");
        match absent.len() {
            0 => None,
            count if count > SHOWN => Some(format!("{shown} and {} more", count - SHOWN)),
            _ => Some(shown),
        }
    }
}

impl<T> std::fmt::Debug for Core<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (params, target_params) = (self.num_params(), self.layout().num_params());
        let ratio = 100. * params as f64 / target_params as f64;
        let tensors = self.layout().params().len();
        let kept = self.kept_counts();
        let target =
            format!("{} ({target_params} parameters in {tensors} tensors{kept})", self.plan.name);
        let PartNames { embedding, generator, mode, .. } = &self.parts;
        let (rows, chunk) = (self.shape.plan.rows(), self.shape.plan.chunk());
        let surplus = self.shape.plan.surplus();
        let mut shown = f.debug_struct(self.name);
        shown
            .field("target", &format_args!("{target}"))
            .field("embedding", &format_args!("{embedding}"))
            .field("generator", &format_args!("{generator}"))
            .field("mode", &format_args!("{mode}"))
            .field("chunks", &format_args!("{rows} of {chunk}, surplus {surplus}"))
            .field("parameters", &format_args!("{params} ({ratio:.1}% of the target's)"));
        if let Some(absent) = self.absent() {
            shown.field("taken as absent", &format_args!("{absent}"));
        }
        shown.finish()
    }
}

pub(super) fn is_trained(name: &str) -> bool {
    !name.starts_with("base.") && !name.starts_with("buffers.")
}

/// The plan covers this target.
fn check_plan<T>(plan: &TargetPlan<T>, chunks: &ChunkPlan) -> Result<()> {
    if chunks.num_params() != plan.num_params() {
        bail!(
            declaration,
            "the plan is for {} parameters, but {} has {}: the const count of one of its specs is wrong",
            chunks.num_params(),
            plan.name,
            plan.num_params()
        );
    }
    Ok(())
}

/// Variables of trained tensors, below `vb`, and frozen ones.
fn kept(
    layout: &Layout,
    initial_values: &InitialValues,
    vb: &VarBuilder<'_>,
) -> Result<Arc<[KeptTensor]>> {
    let kept = |(index, kept): (usize, &KeptInfo)| match (kept.role, initial_values.kept(index)) {
        (Role::Freeze, Some(start)) => Ok(start.clone()),
        (Role::Freeze, None) => bail!(
            declaration,
            "`{}` has the role `freeze`, but no pretrained network to come from: `new_from` takes one",
            kept.name
        ),
        (_, start) => {
            let start = start.map(KeptTensor::dense).transpose()?;
            let started = started(vb, &kept.name, kept.shape.dims(), kept.init, start.as_ref());
            started.map(KeptTensor::from)
        }
    };
    layout.kept().iter().enumerate().map(kept).collect()
}

fn buffers(
    layout: &Layout,
    initial_values: &InitialValues,
    vb: &VarBuilder<'_>,
) -> Result<Arc<[Tensor]>> {
    let buffers = layout.buffers().iter().enumerate();
    let buffers = buffers.map(|(index, buffer)| {
        let vb = match buffer.dtype {
            BufferDtype::Fixed(dtype) => vb.to_dtype(dtype),
            BufferDtype::Any | BufferDtype::Params => vb.clone(),
        };
        let start =
            initial_values.buffer(index).map(|start| start.to_dtype(vb.dtype())).transpose()?;
        started(&vb, &buffer.name, buffer.shape.dims(), buffer.init, start.as_ref())
    });
    buffers.collect()
}

/// What the target made for itself, as variables that are not trained.
fn values(values: &Values, vb: &VarBuilder<'_>) -> Result<Arc<[Tensor]>> {
    values.named().map(|(name, made)| stored(vb, name, made)).collect()
}

/// A variable that starts from a tensor where there is one, unless the builder has it already.
fn started(
    vb: &VarBuilder<'_>,
    name: &str,
    dims: &[usize],
    init: Init,
    start: Option<&Tensor>,
) -> Result<Tensor> {
    match start {
        Some(start) => computed(vb, dims, name, init, |_| Ok(start.clone())),
        None => vb.get_with_hints(dims, name, init),
    }
}
