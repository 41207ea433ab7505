//! What static and dynamic hypernetworks share: the target's plan, the chunks, the scales and what a
//! checkpoint holds.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::vars::Recorded;
use crate::check::{ensure, ensure_same_device};
use crate::generated::scale::Scales;
use crate::generated::{GeneratedParams, TargetPlan};
use crate::generator::{GeneratorOutput, GeneratorShape};
use crate::init::InitScheme;
use crate::plan::ChunkPlan;
use crate::target::layout::{BufferInfo, Layout};

/// The sizes of a hypernetwork, and its name for messages and files.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    /// The hypernetwork's type name.
    pub name: &'static str,
    /// Embeddings, their width and the chunks.
    pub shape: GeneratorShape,
    /// How it starts.
    pub scheme: InitScheme,
}

pub(super) struct Core<T> {
    pub(super) name: &'static str,
    /// What was written after `embedding:`, `generator:` and `mode:`.
    parts: [String; 3],
    chunks: ChunkPlan,
    scheme: InitScheme,
    scales: Scales,
    pub(super) plan: Arc<TargetPlan<T>>,
    pub(super) buffers: Arc<[Tensor]>,
    /// Variables and what else a checkpoint holds, in the order of construction.
    vars: Vec<(String, Tensor)>,
}

/// A core whose variables are still being taken.
pub(super) struct Building<'a, T> {
    core: Core<T>,
    recorded: Recorded,
    vb: VarBuilder<'a>,
}

impl<'a, T> Building<'a, T> {
    pub(super) fn new(
        plan: TargetPlan<T>,
        declared: &Declared,
        parts: [String; 3],
        vb: VarBuilder<'a>,
    ) -> Result<Self> {
        ensure(declared.shape.check())?;
        let plan = Arc::new(plan);
        check_plan(&plan, &declared.shape.plan)?;
        let (recorded, vb) = Recorded::new(vb);
        let core = Core {
            name: declared.name,
            parts,
            chunks: declared.shape.plan,
            scheme: declared.scheme,
            scales: Scales::identity(&plan.layout),
            plan,
            buffers: Arc::new([]),
            vars: Vec::new(),
        };
        Ok(Self { core, recorded, vb })
    }

    /// The builder of one part's variables.
    pub(super) fn part(&self, name: &str) -> VarBuilder<'a> {
        self.vb.pp(name)
    }

    /// `first` is the first output of a generator that gives the same whatever the condition.
    pub(super) fn finish(self, first: Option<&GeneratorOutput>) -> Result<Core<T>> {
        let Self { mut core, recorded, vb } = self;
        if core.scheme == InitScheme::Exact {
            core.scales = Scales::exact(&core.plan.layout, first, &vb.pp("base"))?;
        }
        core.buffers = buffers(&core.plan.layout, &vb.pp("buffers"))?;
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
        let (plan, buffers) = (self.plan.clone(), self.buffers.clone());
        GeneratedParams::from_generated(plan, output, sets, &self.scales, buffers)
    }

    /// The same with generated tensors of this dtype.
    pub(super) fn with_target_dtype(self, dtype: DType) -> Result<Self> {
        if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
            candle_core::bail!(
                "the target's dtype is {dtype:?}, expected one of f16, bf16, f32 and f64"
            );
        }
        Ok(Self { scales: self.scales.with_dtype(dtype), ..self })
    }

    /// The dtype of generated tensors, where it was chosen.
    pub(super) fn target_dtype(&self) -> Option<DType> {
        self.scales.pattern().dtype()
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.plan.layout
    }

    pub(super) fn chunks(&self) -> ChunkPlan {
        self.chunks
    }

    /// The name and tensor of all that a checkpoint holds.
    pub(super) fn named_tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.vars.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    pub(super) fn num_params(&self) -> usize {
        let trained = self.named_tensors().filter(|(name, _)| is_trained(name));
        trained.map(|(_, tensor)| tensor.elem_count()).sum()
    }

    /// The dtype and device of the variables.
    pub(super) fn kind(&self) -> (DType, &Device) {
        match self.vars.first() {
            Some((_, var)) => (var.dtype(), var.device()),
            None => (DType::F32, &Device::Cpu),
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
            ("the builder", vb.device().location()),
            ("the hypernetwork", device.location()),
        )?;
        if vb.dtype() != dtype {
            candle_core::bail!("the builder is {:?}, but the hypernetwork {dtype:?}", vb.dtype());
        }
        let (recorded, vb) = Recorded::new(vb);
        take(self.scheme, vb.pp(part))?;
        drop(vb);
        self.vars.extend(recorded.into_vec());
        Ok(())
    }

    pub(super) fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (params, target_params) = (self.num_params(), self.layout().num_params());
        let ratio = 100. * params as f64 / target_params as f64;
        let tensors = self.layout().params().len();
        let target =
            format!("{} ({target_params} parameters in {tensors} tensors)", self.plan.name);
        let [embedding, generator, mode] = &self.parts;
        let (rows, chunk) = (self.chunks.rows(), self.chunks.chunk());
        let surplus = self.chunks.surplus();
        f.debug_struct(self.name)
            .field("target", &format_args!("{target}"))
            .field("embedding", &format_args!("{embedding}"))
            .field("generator", &format_args!("{generator}"))
            .field("mode", &format_args!("{mode}"))
            .field("chunks", &format_args!("{rows} of {chunk}, surplus {surplus}"))
            .field("parameters", &format_args!("{params} ({ratio:.1}% of the target's)"))
            .finish()
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

fn buffers(layout: &Layout, vb: &VarBuilder<'_>) -> Result<Arc<[Tensor]>> {
    let buffer =
        |buffer: &BufferInfo| vb.get_with_hints(buffer.shape.clone(), &buffer.name, buffer.init);
    layout.buffers().iter().map(buffer).collect()
}
