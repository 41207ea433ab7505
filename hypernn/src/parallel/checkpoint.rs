//! A run that goes on: rank 0 writes and reads, all others get what it has.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Result, Tensor};
use candle_nn::{Optimizer, SGD, VarMap};

use super::all_reduce::AllReduce;
use super::data_parallel::DataParallel;
use crate::error::bail;
use crate::files::{self, Snapshot};
use crate::nn::AdamW;

/// An optimiser whose state can be kept by name, so that a run can go on.
pub trait OptimizerState: Optimizer {
    /// What it remembers of its steps, by names that those of the variables begin.
    ///
    /// # Errors
    /// A variable that is not among `vars`.
    fn state(&self, vars: &VarMap) -> Result<HashMap<String, Tensor>>;

    /// Goes on from what [`state`](Self::state) gave.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape or dtype.
    fn load_state(&mut self, vars: &VarMap, state: &HashMap<String, Tensor>) -> Result<()>;
}

impl OptimizerState for AdamW {
    fn state(&self, vars: &VarMap) -> Result<HashMap<String, Tensor>> {
        Self::state(self, vars)
    }

    fn load_state(&mut self, vars: &VarMap, state: &HashMap<String, Tensor>) -> Result<()> {
        Self::load_state(self, vars, state)
    }
}

/// It remembers nothing.
impl OptimizerState for SGD {
    fn state(&self, _: &VarMap) -> Result<HashMap<String, Tensor>> {
        Ok(HashMap::new())
    }

    fn load_state(&mut self, _: &VarMap, _: &HashMap<String, Tensor>) -> Result<()> {
        Ok(())
    }
}

const VARIABLE: &str = "variable.";
const OPTIMIZER: &str = "optimizer.";
const STEPS: &str = "steps";

impl<O: OptimizerState, C: AllReduce> DataParallel<O, C> {
    /// Writes variables, the optimiser's state and the number of steps as safetensors, by rank 0 alone; all
    /// ranks call it, and go on when the file is there. Running statistics are
    /// [averaged](Self::average_statistics) first, so that a run goes on with the same numbers whether it was
    /// interrupted or not. The file is written beside its place and renamed: `path` never holds half of it.
    ///
    /// # Errors
    /// The file can't be written: all ranks say so. Or those of [`average_statistics`](Self::average_statistics).
    pub fn save(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.average_statistics()?;
        let first = self.comm.rank() == 0;
        let written = if first { self.write(path.as_ref()) } else { Ok(()) };
        self.agree(written)
    }

    /// Goes on from what [`save`](Self::save) wrote, with any number of ranks. Rank 0 reads it; all ranks call it,
    /// and others need no such file.
    ///
    /// # Errors
    /// The file can't be read, or is of other variables or another optimiser: all ranks say so.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let first = self.comm.rank() == 0;
        let steps = if first { self.read(path.as_ref()) } else { Ok(0) };
        let steps = self.agree(steps)?;
        self.synchronize(steps)
    }

    /// All ranks take the variables, the optimiser's state and the number of steps, `steps`, that rank 0 has: for
    /// programs that keep files of their own, after rank 0 has read them. What other ranks say for `steps` does not
    /// matter.
    ///
    /// # Errors
    /// A rank that is elsewhere or has ended.
    pub fn synchronize(&mut self, steps: usize) -> Result<()> {
        self.agree(Ok(()))?;
        self.broadcast_variables()?;
        self.broadcast_state()?;
        let steps = i64::try_from(steps).unwrap_or(i64::MAX);
        let mut steps = [Tensor::new(&[steps], &self.device)?];
        self.comm.broadcast(&mut steps, 0)?;
        self.steps = usize::try_from(steps[0].to_vec1::<i64>()?[0]).unwrap_or_default();
        Ok(())
    }

    fn write(&self, path: &Path) -> Result<()> {
        let state = self.optimizer.state(&self.vars)?.into_iter();
        let mut tensors: Vec<_> =
            state.map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor)).collect();
        let variables =
            self.named().map(|(name, var)| (format!("{VARIABLE}{name}"), var.as_tensor().clone()));
        tensors.extend(variables);
        let steps = i64::try_from(self.steps).unwrap_or(i64::MAX);
        tensors.push((STEPS.to_owned(), Tensor::new(steps, &Device::Cpu)?));
        let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        Snapshot::take(tensors)?.write(path, HashMap::new())
    }

    /// The number of steps.
    fn read(&mut self, path: &Path) -> Result<usize> {
        let found = files::tensors(path)?;
        self.take(&found).map_err(|err| files::can_not("load", path, &err))
    }

    fn take(&mut self, found: &HashMap<String, Tensor>) -> Result<usize> {
        let find = |name: &str| match found.get(name) {
            Some(tensor) => Ok(tensor),
            None => bail!(layout, "it has no `{name}`"),
        };
        let steps = find(STEPS)?.to_scalar::<i64>()?;
        let mut values = Vec::new();
        for (name, var) in self.named() {
            let value = find(&format!("{VARIABLE}{name}"))?;
            if value.shape() != var.shape() || value.dtype() != var.dtype() {
                bail!(
                    layout,
                    "`{name}` is {:?} {:?}, expected {:?} {:?}",
                    value.dtype(),
                    value.dims(),
                    var.dtype(),
                    var.dims()
                );
            }
            values.push((var.clone(), value.to_device(var.device())?));
        }
        let state = found.iter().filter_map(|(name, tensor)| {
            Some((name.strip_prefix(OPTIMIZER)?.to_owned(), tensor.clone()))
        });
        self.optimizer.load_state(&self.vars, &state.collect())?;
        values.iter().try_for_each(|(var, value)| var.set(value))?;
        Ok(usize::try_from(steps).unwrap_or_default())
    }

    /// Takes the optimiser's state of rank 0: names and shapes are those of each rank's own.
    fn broadcast_state(&mut self) -> Result<()> {
        let mut state: Vec<_> = self.optimizer.state(&self.vars)?.into_iter().collect();
        state.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (_, tensor) in &mut state {
            let mut tensors = [tensor.to_device(&self.device)?];
            self.comm.broadcast(&mut tensors, 0)?;
            *tensor = tensors[0].to_device(tensor.device())?;
        }
        self.optimizer.load_state(&self.vars, &state.into_iter().collect())
    }
}
