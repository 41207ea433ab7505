//! Hypernetworks whose weights depend on a condition, which may be the target's own input.

use std::ops::Deref;
use std::path::Path;

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::core::{Building, Core, Declared, PartNames};
use super::exact_audit::ExactAudit;
use super::scales::FirstOutput;
use crate::check::ensure;
use crate::condition::{Condition, ConditionValue, Rows};
use crate::embedding::{ConditionedEmbedding, ConditionedEmbeddingSpec, Embedded, State};
use crate::error::bail;
use crate::generated::{Buffers, GeneratedParams, StreamedParams, TargetPlan};
use crate::generator::{ConditionedGenerator, ConditionedGeneratorSpec, GeneratorOutput};
use crate::ops::split::steps;
use crate::structure::layout::ParamInfo;
use crate::structure::{ForwardTarget, ForwardTargetT, Outputs};
use crate::trace::span;

/// What a dynamic hypernetwork computed on the way to the target's output.
#[derive(Debug)]
#[non_exhaustive]
pub struct DynamicAux<T> {
    /// The generated parameters, a set per row.
    pub params: GeneratedParams<T>,
    /// The embeddings.
    pub embedding: Embedded,
    /// The state of the next step.
    pub state: State,
}

impl<T> Clone for DynamicAux<T> {
    fn clone(&self) -> Self {
        let Self { params, embedding, state } = self;
        Self { params: params.clone(), embedding: embedding.clone(), state: state.clone() }
    }
}

/// A hypernetwork whose weights depend on a condition.
///
/// `hypernetwork!` with `mode: dynamic` wraps it in a type of the user's own, which derefs to it; it derefs to
/// [`Core`], which has what hypernetworks of every kind have. A condition `[width]`
/// (or one task) gives one set of weights for all rows of the target's input; a condition of `G`
/// rows gives `G` sets, and the target's input then has `G × n` rows: each run of `n` rows uses its
/// own set. With `n = 1` that is a set per sample, with more a set per task.
pub struct DynamicHyperNetwork<T> {
    core: Core<T>,
    condition: Condition,
    embedding: Box<dyn ConditionedEmbedding>,
    generator: Box<dyn ConditionedGenerator>,
}

impl<T> DynamicHyperNetwork<T> {
    /// Builds the parts, with variables below `vb`: `embedding.…`, `generator.…`, `target.…` for
    /// tensors that are trained themselves, `gains` over a pretrained network, and `buffers.…` for what
    /// is kept but not trained.
    ///
    /// # Errors
    /// An invalid size, conditions that do not fit together, or the builder's own.
    pub fn new(
        plan: TargetPlan<T>,
        declared: &Declared,
        conditions: (Condition, Condition),
        embedding: &dyn ConditionedEmbeddingSpec,
        generator: &dyn ConditionedGeneratorSpec,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        ensure(Condition::check(conditions.0, conditions.1))?;
        let parts = PartNames {
            embedding: embedding.to_string(),
            embedding_in_files: embedding.in_files(),
            generator: generator.to_string(),
            mode: "dynamic",
            conditions,
        };
        let building = Building::new(plan, declared, parts, vb)?;
        let Declared { shape, scheme, .. } = *declared;
        let embedding = embedding.build(scheme, building.part("embedding"))?;
        let generator =
            generator.build_for(building.layout(), shape, scheme, building.part("generator"))?;
        let condition = conditions.0.join(conditions.1);
        let is_zero = |param: &ParamInfo| generator.starts_at_zero(param);
        let core = building.finish(FirstOutput { all: None, is_zero: &is_zero })?;
        Ok(Self { core, condition, embedding, generator })
    }

    /// This hypernetwork, with a target that computes in `dtype`: generated tensors, inputs and outputs have
    /// it. The hypernetwork's own variables, and their gradients, keep theirs.
    ///
    /// A condition has the dtype of the hypernetwork, the target's input that of the target; an input
    /// that is its own condition is cast. See
    /// [`StaticHyperNetwork::with_target_dtype`](super::StaticHyperNetwork::with_target_dtype).
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

    /// What the first step of a recurrent embedding starts from, for `sets` sets.
    ///
    /// # Errors
    /// candle's own.
    pub fn zero_state(&self, sets: usize) -> Result<State> {
        self.embedding.zero_state(sets)
    }

    /// Generates the target's parameters for a condition: one set for `[width]`, one task or one sequence
    /// `[T, width]`; `G` sets for `[G, width]`, `G` tasks or `G` sequences.
    ///
    /// Sequences and sets of several lengths are given with a mask or with lengths, `(&sequences, &mask)`, or as
    /// [`Sequences`](crate::Sequences); see [`ConditionValue`].
    ///
    /// # Errors
    /// A condition of another width, rank or dtype, or an unknown task; of sequences also an empty one, and a mask or
    /// lengths that do not fit.
    pub fn generate_params<'a>(
        &self,
        condition: impl Into<ConditionValue<'a>>,
    ) -> Result<GeneratedParams<T>> {
        let (dtype, device) = self.core.kind();
        let (rows, sets) = self.condition.rows(condition.into(), dtype, device)?;
        let state = self.zero_state(rows.sets())?;
        Ok(self.generate_rows(&rows, sets, &state)?.params)
    }

    /// The target's parameters for a condition as [`generate_params`](Self::generate_params) takes it, each of which is
    /// generated when a layer asks for it: for a target that does not fit into memory, where nothing is to be learned.
    /// See [`StreamedParams`].
    ///
    /// # Errors
    /// Those of [`generate_params`](Self::generate_params).
    pub fn stream_params<'a>(
        &self,
        condition: impl Into<ConditionValue<'a>>,
    ) -> Result<StreamedParams<T>> {
        let (dtype, device) = self.core.kind();
        let (rows, sets) = self.condition.rows(condition.into(), dtype, device)?;
        let (output, ..) = self.generator_output(&rows, &self.zero_state(rows.sets())?)?;
        self.core.stream(&output, sets)
    }

    /// One step of a recurrent embedding: generates the target's parameters for a condition, `[width]` or
    /// `[G, width]`, from the state of the step before. Returns them and the next state.
    ///
    /// # Errors
    /// Those of [`generate_params`](Self::generate_params), or a state of another number of sets.
    pub fn generate_step<'a>(
        &self,
        condition: impl Into<ConditionValue<'a>>,
        state: &State,
    ) -> Result<(GeneratedParams<T>, State)> {
        let aux = self.generate_aux(condition.into(), state)?;
        Ok((aux.params, aux.state))
    }

    fn generate_aux(&self, condition: ConditionValue<'_>, state: &State) -> Result<DynamicAux<T>> {
        let (dtype, device) = self.core.kind();
        let (rows, sets) = self.condition.rows(condition, dtype, device)?;
        self.generate_rows(&rows, sets, state)
    }

    /// Generates parameters for a condition that has been checked; `sets` is the number of weight sets, none where
    /// one serves every row of the input.
    fn generate_rows(
        &self,
        rows: &Rows,
        sets: Option<usize>,
        state: &State,
    ) -> Result<DynamicAux<T>> {
        span!("generate", self.core.name);
        let (output, embedding, state) = self.generator_output(rows, state)?;
        Ok(DynamicAux { params: self.core.generate(&output, sets)?, embedding, state })
    }

    /// What the generator gives for a condition, the embeddings that it was given, and the next state.
    fn generator_output(
        &self,
        rows: &Rows,
        state: &State,
    ) -> Result<(GeneratorOutput, Embedded, State)> {
        let (embedding, state) = match rows {
            Rows::Vectors(rows) => self.embedding.forward(rows, state)?,
            Rows::Many(sequences) => self.embedding.forward_sequences(sequences, state)?,
        };
        self.core.checks().check_embedded(&embedding, rows.sets())?;
        let output = match rows {
            Rows::Vectors(rows) => self.generator.forward(&embedding, rows)?,
            Rows::Many(sequences) => self.generator.forward_sequences(&embedding, sequences)?,
        };
        Ok((output, embedding, state))
    }

    /// The target's input as its own condition: a vector per row.
    fn own_condition(&self, xs: &Tensor) -> Result<Tensor> {
        self.check_own(xs.dims())?;
        self.cast(&if xs.rank() > 2 { xs.flatten_from(1)? } else { xs.clone() })
    }

    /// Whether an input of this shape, `[B, …]`, can be its own condition.
    fn check_own(&self, dims: &[usize]) -> Result<()> {
        let width = match self.condition {
            Condition::Vector(width) => width,
            Condition::Sequence(_) | Condition::Set(_) => bail!(
                condition,
                "the input can't be its own condition, which is a sequence or a set: use `generate_params(&sequences)`, then `params.forward(&xs)`"
            ),
            Condition::None | Condition::Task => bail!(
                condition,
                "the input can't be its own condition, which is the number of a task: use `generate_params(&tasks)`, then `params.forward(&xs)`"
            ),
        };
        match dims {
            [_, row @ ..] if !row.is_empty() && row.iter().product::<usize>() == width => Ok(()),
            _ => bail!(
                condition,
                "an input of shape {dims:?} can't be its own condition of width {width}: use `generate_params(&condition)`, then `params.forward(&xs)`"
            ),
        }
    }

    /// An input in the target's dtype, where it has one, as a condition.
    fn cast(&self, xs: &Tensor) -> Result<Tensor> {
        match self.core.target_dtype() {
            Some(dtype) if xs.dtype() == dtype => xs.to_dtype(self.core.kind().0),
            _ => Ok(xs.clone()),
        }
    }

    /// The input `[B, …]` conditions its own weights, a set per row, from a zero state.
    ///
    /// # Errors
    /// The input's width is not the condition's, or the target's own.
    pub fn forward<O: Outputs>(&self, xs: &Tensor) -> Result<O>
    where
        T: ForwardTarget<Output = O>,
    {
        self.generate_params(&self.own_condition(xs)?)?.forward(xs)
    }

    /// Generates a weight set for each row of the input `[B, …]`, from that row and a zero state, and applies a
    /// target that behaves otherwise in training.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn forward_t<O: Outputs>(&self, xs: &Tensor, train: bool) -> Result<O>
    where
        T: ForwardTargetT<Output = O>,
    {
        self.generate_params(&self.own_condition(xs)?)?.forward_t(xs, train)
    }

    /// Generates a weight set for each row of the input `[B, …]`, from that row and a zero state, and applies the
    /// target. Returns the output, and the embedding, parameters and state that were computed on the way.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn forward_aux<O: Outputs>(&self, xs: &Tensor) -> Result<(O, DynamicAux<T>)>
    where
        T: ForwardTarget<Output = O>,
    {
        let condition = self.own_condition(xs)?;
        let state = self.zero_state(condition.dim(0)?)?;
        let aux = self.generate_aux((&condition).into(), &state)?;
        Ok((aux.params.forward(xs)?, aux))
    }

    /// One step of a sequence: the input `[B, …]` conditions its own weights, from a state; also
    /// gives the next state.
    ///
    /// # Errors
    /// The input's width is not the condition's, a state of another number of rows, or the target's
    /// own.
    pub fn step<O: Outputs>(&self, xs: &Tensor, state: &State) -> Result<(O, State)>
    where
        T: ForwardTarget<Output = O>,
    {
        let (params, state) = self.generate_step(&self.own_condition(xs)?, state)?;
        Ok((params.forward(xs)?, state))
    }

    /// One step of a sequence, for a target that behaves otherwise in training: the input `[B, …]` conditions its
    /// own weights, from a state. Returns the output and the next state.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn step_t<O: Outputs>(&self, xs: &Tensor, state: &State, train: bool) -> Result<(O, State)>
    where
        T: ForwardTargetT<Output = O>,
    {
        let (params, state) = self.generate_step(&self.own_condition(xs)?, state)?;
        Ok((params.forward_t(xs, train)?, state))
    }

    /// A whole sequence `[B, T, …]`, step by step from a state: outputs `[B, T, …]` and the last
    /// state.
    ///
    /// # Errors
    /// Those of [`step`](Self::step), or a sequence of no steps.
    pub fn run<O: Outputs>(&self, xs: &Tensor, state: &State) -> Result<(O, State)>
    where
        T: ForwardTarget<Output = O>,
    {
        self.run_with(xs, state, |params, xs| params.forward(xs))
    }

    /// A whole sequence `[B, T, …]`, step by step from a state, for a target that behaves otherwise in training.
    /// Returns the outputs `[B, T, …]` and the last state.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn run_t<O: Outputs>(&self, xs: &Tensor, state: &State, train: bool) -> Result<(O, State)>
    where
        T: ForwardTargetT<Output = O>,
    {
        self.run_with(xs, state, |params, xs| params.forward_t(xs, train))
    }

    fn run_with<O: Outputs>(
        &self,
        xs: &Tensor,
        state: &State,
        forward: impl Fn(&GeneratedParams<T>, &Tensor) -> Result<O>,
    ) -> Result<(O, State)> {
        check_steps(xs)?;
        self.check_own(&[&xs.dims()[..1], &xs.dims()[2..]].concat())?;
        let conditions = if xs.rank() > 3 { &xs.flatten_from(2)? } else { xs };
        let (conditions, inputs) = (self.cast(conditions)?, steps(xs)?);
        let step =
            |params: &GeneratedParams<T>, at: usize, ()| Ok((forward(params, &inputs[at])?, ()));
        let (outputs, state, ()) = self.scan_params(&conditions, state, (), step)?;
        Ok((outputs, state))
    }

    /// A sequence of conditions `[B, T, width]`, tasks `[B, T]`, or sequences of one length `[B, T, S, width]`, over a target of any signature,
    /// such as a recurrent one: at each step `at`, `step(target, at, carried)` gives the output and
    /// what it carries on. Returns the outputs `[B, T, …]`, the last state and what was carried last.
    ///
    /// # Errors
    /// Those of [`generate_step`](Self::generate_step), a sequence of no steps, several rows of a target whose
    /// layers take one set at a time, or `step`'s own.
    pub fn scan<C>(
        &self,
        conditions: &Tensor,
        state: &State,
        carried: C,
        mut step: impl FnMut(&T, usize, C) -> Result<(Tensor, C)>,
    ) -> Result<(Tensor, State, C)> {
        let step = |params: &GeneratedParams<T>, at, carried| step(&params.unpack()?, at, carried);
        self.scan_params(conditions, state, carried, step)
    }

    fn scan_params<O: Outputs, C>(
        &self,
        conditions: &Tensor,
        state: &State,
        carried: C,
        mut step: impl FnMut(&GeneratedParams<T>, usize, C) -> Result<(O, C)>,
    ) -> Result<(O, State, C)> {
        check_steps(conditions)?;
        let (mut state, mut carried) = (state.clone(), carried);
        let mut outputs = Vec::with_capacity(conditions.dim(1)?);
        for (at, condition) in steps(conditions)?.iter().enumerate() {
            let (params, next) = self.generate_step(condition, &state)?;
            let (output, next_carried) = step(&params, at, carried)?;
            outputs.push(output);
            (state, carried) = (next, next_carried);
        }
        Ok((O::joined(&outputs, &|parts| Tensor::stack(parts, 1))?, state, carried))
    }

    /// Adds `count` tasks to an embedding of `tasks`, with variables below `vb`, the builder that
    /// `new` was given. The tasks that are there stay as they are, bit for bit.
    ///
    /// # Errors
    /// The embedding has no tasks, the builder has another dtype or is on another device, or the
    /// builder's own.
    pub fn add_tasks(&mut self, count: usize, vb: VarBuilder<'_>) -> Result<()> {
        let embedding = &mut self.embedding;
        self.core.extend("embedding", vb, |scheme, vb| embedding.add_tasks(count, scheme, vb))
    }

    /// Whether each generated tensor and each variable gets the gradient that a loss has for a condition,
    /// beside differences of the loss. `loss` computes it from parameters that it is given; see
    /// [`ExactAudit`]. Variables are moved meanwhile, and are the same afterwards.
    ///
    /// # Errors
    /// Those of [`generate_params`](Self::generate_params), the loss's own, a loss that is not finite, or one
    /// that is not the same twice for the same parameters.
    pub fn audit_exact<'a>(
        &self,
        condition: impl Into<ConditionValue<'a>>,
        mut loss: impl FnMut(&GeneratedParams<T>) -> Result<Tensor>,
    ) -> Result<ExactAudit> {
        let condition = condition.into();
        self.core.audit_exact(&mut || self.generate_params(condition), &mut loss)
    }

    /// Running statistics for each of `sets` weight sets by itself, as variables below `vb` that start
    /// as the hypernetwork's own, for [`GeneratedParams::with_buffers`].
    ///
    /// # Errors
    /// No sets, or the builder's own.
    pub fn buffers(&self, sets: usize, vb: VarBuilder<'_>) -> Result<Buffers> {
        Buffers::new(self.layout(), &self.core.kept.buffers, sets, &vb)
    }

    /// What the condition is.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Writes the weights for one condition, `[width]`, one task or one sequence `[T, width]`, as an ordinary
    /// checkpoint of the target.
    ///
    /// # Errors
    /// A condition of several sets, or the file can't be written.
    pub fn export<'a>(
        &self,
        condition: impl Into<ConditionValue<'a>>,
        path: impl AsRef<Path>,
    ) -> Result<()> {
        self.core.export_params(&self.generate_params(condition)?, path)
    }
}

fn check_steps(xs: &Tensor) -> Result<()> {
    if xs.rank() < 2 || xs.dim(1)? == 0 {
        bail!(shape, "a sequence of shape {:?} has no steps, expected [B, T, …]", xs.dims());
    }
    Ok(())
}

/// Layout, variables and files are those that every hypernetwork has.
impl<T> Deref for DynamicHyperNetwork<T> {
    type Target = Core<T>;

    fn deref(&self) -> &Core<T> {
        &self.core
    }
}

/// The input is its own condition.
impl<T: Module> Module for DynamicHyperNetwork<T> {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        Self::forward(self, xs)
    }
}

impl<T> std::fmt::Debug for DynamicHyperNetwork<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.core, f)
    }
}
