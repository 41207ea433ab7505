//! Tasks one after the other, without forgetting those before.
//!
//! A hypernetwork that learns a task changes what it generates for all others. Data of old tasks are
//! not needed to prevent that, only the weights that they had: an [`OutputRegularizer`] keeps them,
//! and its penalty holds the hypernetwork to them.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::files::{self, NamedTensors, Snapshot};
use crate::hypernetwork::DynamicHyperNetwork;

/// Holds a hypernetwork to the weights that it generated for the tasks it has learned.
///
/// With `K` old tasks, their conditions `c`, what was generated for them `h*`, of `P` values each,
/// and what would be generated now, `h`, the penalty is
///
/// ```text
/// β / K · Σ ‖h(c) − h*(c)‖²
/// ```
///
/// After von Oswald et al., *Continual learning with hypernetworks* (ICLR 2020), equation 2, where `K`
/// is `T − 1`. Three things differ. The weights of a task are kept once, when it ends; the paper takes
/// those of all old tasks anew before each task, so that small changes may add up. (To do as the
/// paper, [`remember`](Self::remember) them again.) There is no look ahead: the penalty is that of the
/// variables as they are, not as they would be after the step (`ΔΘ` in the paper). And the embeddings
/// of old tasks go on learning, as all variables that the optimiser has.
///
/// ```
/// use candle_core::{DType, Device, Result, Tensor};
/// use hypernn::continual::OutputRegularizer;
/// use hypernn::nn::{AdamW, Linear, Module, Optimizer, VarMap};
/// use hypernn::{HyperTarget, hypernetwork, seeded};
///
/// #[derive(HyperTarget)]
/// #[hyper(sequential = [hidden, relu, out], input = 4)]
/// struct Net {
///     #[hyper(linear(4, 8))]
///     hidden: Linear,
///     #[hyper(linear(8, 1))]
///     out: Linear,
/// }
///
/// hypernetwork! {
///     struct HyperNet for Net { embedding: tasks(1, 7, 4), generator: linear, mode: dynamic }
/// }
///
/// # fn main() -> Result<()> {
/// let vars = VarMap::new();
/// let vb = seeded::var_builder(&vars, 0, DType::F32, &Device::Cpu);
/// let mut hyper = HyperNet::new(vb.clone())?;
/// let mut old_tasks = OutputRegularizer::new(1.)?;
/// let xs = Tensor::ones((2, 4), DType::F32, &Device::Cpu)?;
/// for task in 0..3u32 {
///     if task > 0 {
///         hyper.add_tasks(1, vb.clone())?;
///     }
///     let condition = Tensor::new(task, &Device::Cpu)?;
///     let mut optimizer = AdamW::new_lr(vars.all_vars(), 0.01)?;
///     for _ in 0..20 {
///         let ys = hyper.generate_params(&condition)?.forward(&xs)?;
///         let loss = (ys - f64::from(task))?.sqr()?.mean_all()?;
///         let loss = (loss + old_tasks.penalty(&hyper)?)?;
///         optimizer.backward_step(&loss)?;
///     }
///     old_tasks.remember(&hyper, &condition)?;
/// }
/// assert_eq!(old_tasks.len(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct OutputRegularizer {
    beta: f64,
    tasks: Vec<Remembered>,
}

/// A task's condition, `[width]` or a number, and what was generated for it, `[P]`.
#[derive(Clone, Debug)]
struct Remembered {
    condition: Tensor,
    values: Tensor,
}

impl OutputRegularizer {
    /// A penalty for no task yet; `beta` is its weight.
    ///
    /// # Errors
    /// `beta` is negative or not finite.
    pub fn new(beta: f64) -> Result<Self> {
        if !(beta.is_finite() && beta >= 0.) {
            crate::error::bail!(
                declaration,
                "the output regulariser's beta is {beta}, expected a number from 0 on"
            );
        }
        Ok(Self { beta, tasks: Vec::new() })
    }

    /// The number of tasks that are remembered.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether no tasks have been learned.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// A task ends: keeps a copy of what is generated for its condition, `[width]` or one task. What
    /// was kept for the same condition before is replaced.
    ///
    /// # Errors
    /// A condition of several sets or of another form than those before, or that of
    /// [`generate_params`](DynamicHyperNetwork::generate_params).
    pub fn remember<T>(
        &mut self,
        network: &DynamicHyperNetwork<T>,
        condition: &Tensor,
    ) -> Result<()> {
        let params = network.generate_params(condition)?;
        if let Some(sets) = params.num_sets() {
            crate::error::bail!(
                condition,
                "one task is remembered at a time, but the condition is that of {sets}"
            );
        }
        self.check_form(condition)?;
        let task = Remembered {
            condition: condition.detach().copy()?,
            values: params.flat()?.detach().copy()?,
        };
        match self.position(condition)? {
            Some(index) => self.tasks[index] = task,
            None => self.tasks.push(task),
        }
        Ok(())
    }

    /// The penalty, a scalar of the hypernetwork's dtype; zero where no task is remembered.
    ///
    /// # Errors
    /// Remembered tasks of another hypernetwork, or that of
    /// [`generate_params`](DynamicHyperNetwork::generate_params).
    pub fn penalty<T>(&self, network: &DynamicHyperNetwork<T>) -> Result<Tensor> {
        self.penalty_of(network, &self.tasks.iter().collect::<Vec<_>>())
    }

    /// The penalty for `count` of the tasks alone, or for all where there are not as many: a step then costs
    /// the same whatever the number of tasks.
    ///
    /// Which tasks these are follows from `draw` alone. With the step's number for it, each step has
    /// tasks of its own, and a training that is interrupted goes on with the same.
    ///
    /// # Errors
    /// `count` is zero, or as [`penalty`](Self::penalty).
    pub fn penalty_of_some<T>(
        &self,
        network: &DynamicHyperNetwork<T>,
        count: usize,
        draw: u64,
    ) -> Result<Tensor> {
        if count == 0 {
            crate::error::bail!(
                declaration,
                "a penalty of no task holds nothing: `count` is 0, expected 1 or more"
            );
        }
        let mut rng = StdRng::seed_from_u64(draw);
        let drawn = rand::seq::index::sample(&mut rng, self.len(), count.min(self.len()));
        self.penalty_of(network, &drawn.iter().map(|index| &self.tasks[index]).collect::<Vec<_>>())
    }

    fn penalty_of<T>(
        &self,
        network: &DynamicHyperNetwork<T>,
        tasks: &[&Remembered],
    ) -> Result<Tensor> {
        let (dtype, device) = network.kind();
        if tasks.is_empty() {
            return Tensor::zeros((), dtype, device);
        }
        check_sizes(tasks, network.num_target_params())?;
        let stack = |part: fn(&Remembered) -> &Tensor| {
            Tensor::stack(&tasks.iter().map(|task| part(task)).collect::<Vec<_>>(), 0)
        };
        let now = network.generate_params(&stack(|task| &task.condition)?)?.flat()?;
        let kept = stack(|task| &task.values)?;
        if kept.dtype() != now.dtype() {
            crate::error::bail!(
                dtype,
                "the remembered tasks have values of {:?}, but this hypernetwork generates {:?}: they were remembered for another",
                kept.dtype(),
                now.dtype()
            );
        }
        let change = (now - kept)?.to_dtype(dtype)?;
        change.sqr()?.sum_all()? * (self.beta / tasks.len() as f64)
    }

    /// Writes the remembered tasks as safetensors: `0.condition`, `0.values`, `1.condition`, …
    ///
    /// # Errors
    /// The file can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let tensors = self.tasks.iter().enumerate().flat_map(|(index, task)| {
            let name = |part| format!("{index}.{part}");
            [(name("condition"), &task.condition), (name("values"), &task.values)]
        });
        let tensors: Vec<_> = tensors.collect();
        let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), *tensor));
        Snapshot::take(tensors)?.write(path.as_ref(), HashMap::new())
    }

    /// Reads what [`save`](Self::save) wrote, in place of the tasks that are remembered now.
    ///
    /// # Errors
    /// The file can't be read, or is not such a file; nothing has changed then.
    pub fn load(&mut self, path: impl AsRef<Path>, device: &Device) -> Result<()> {
        let path = path.as_ref();
        let tasks = files::read(path).and_then(|found| tasks_of(&found, device));
        self.tasks = tasks.map_err(|err| files::can_not("load", path, &err))?;
        Ok(())
    }

    /// All conditions have to fit into one tensor.
    fn check_form(&self, condition: &Tensor) -> Result<()> {
        let form = |tensor: &Tensor| (tensor.dtype(), tensor.dims().to_vec());
        match self.tasks.first() {
            Some(first) if form(&first.condition) != form(condition) => crate::error::bail!(
                condition,
                "the condition is {:?} of shape {:?}, but those remembered are {:?} of shape {:?}",
                condition.dtype(),
                condition.dims(),
                first.condition.dtype(),
                first.condition.dims()
            ),
            _ => Ok(()),
        }
    }

    fn position(&self, condition: &Tensor) -> Result<Option<usize>> {
        let values = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
        let wanted = values(condition)?;
        for (index, task) in self.tasks.iter().enumerate() {
            if values(&task.condition)? == wanted {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }
}

/// The tasks in a file, in order.
fn tasks_of(found: &NamedTensors, device: &Device) -> Result<Vec<Remembered>> {
    let part = |index: usize, part| match found.tensors.get(&format!("{index}.{part}")) {
        Some(tensor) => tensor.to_device(device),
        None => {
            crate::error::bail!(layout, "no `{index}.{part}`, as an output regulariser writes it")
        }
    };
    let count = (found.tensors.len() + found.left_out.len()).div_ceil(2);
    let task = |index| {
        let (condition, values) = (part(index, "condition")?, part(index, "values")?);
        check_task(index, &condition, &values)?;
        Ok(Remembered { condition, values })
    };
    let tasks = (0..count).map(task).collect::<Result<Vec<_>>>()?;
    let form = |task: &Remembered| {
        let Remembered { condition, values } = task;
        (condition.dtype(), condition.dims().to_vec(), values.dtype(), values.dims().to_vec())
    };
    match tasks.iter().position(|task| form(task) != form(&tasks[0])) {
        None => Ok(tasks),
        Some(index) => crate::error::bail!(
            layout,
            "task {index} is of another form than task 0: {:?}, {:?}",
            form(&tasks[index]),
            form(&tasks[0])
        ),
    }
}

/// A condition is `[width]` or a number, and values are `[P]`.
fn check_task(index: usize, condition: &Tensor, values: &Tensor) -> Result<()> {
    if condition.rank() > 1 || values.rank() != 1 {
        crate::error::bail!(
            layout,
            "task {index} has a condition of shape {:?} and values of shape {:?}, expected those of one task",
            condition.dims(),
            values.dims()
        );
    }
    if !values.dtype().is_float() {
        crate::error::bail!(
            layout,
            "task {index} has values of {:?}, expected a floating dtype",
            values.dtype()
        );
    }
    Ok(())
}

fn check_sizes(tasks: &[&Remembered], expected: usize) -> Result<()> {
    match tasks.iter().map(|task| task.values.elem_count()).find(|&found| found != expected) {
        Some(found) => crate::error::bail!(
            shape,
            "the remembered task has {found} generated values, but this hypernetwork generates {expected}: it was remembered for another"
        ),
        None => Ok(()),
    }
}
