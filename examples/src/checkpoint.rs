//! A run on disk, so that it can be interrupted and go on with the same numbers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use hypernn::nn::{AdamW, VarMap};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What starts the names of tensors, by what they belong to.
const VARIABLE: &str = "variable.";
const OPTIMIZER: &str = "optimizer.";
/// What the run itself remembers, as MessagePack, and the settings it was started with; a byte to a value.
const RUN: &str = "run";
const SETTINGS: &str = "settings";

/// A checkpoint of a run: variables, the optimiser's state, and whatever the run itself has to
/// remember, such as the number of steps done and its history, in one file.
///
/// Random numbers are no part of it: draw them from seed and step, or skip those already used
/// ([`Batches::of_step`](crate::data::Batches::of_step)).
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    settings: String,
}

impl Checkpoint {
    /// Of the network of this name, in this folder. The settings are all that the run's numbers depend
    /// on, in any wording: a run does not go on with others.
    pub fn new(folder: &Path, name: &str, settings: impl Into<String>) -> Self {
        let file = format!("{}.checkpoint", name.replace(' ', "_"));
        Self { path: folder.join(file), settings: settings.into() }
    }

    /// Whether there is one.
    fn exists(&self) -> bool {
        self.path.is_file()
    }

    /// Writes it. An interruption leaves the earlier one whole: the file is written beside it first.
    ///
    /// # Errors
    /// The file cannot be written, or the optimiser has variables that are not among these.
    pub fn save(&self, vars: &VarMap, optimizer: &AdamW, run: &impl Serialize) -> Result<()> {
        let mut tensors = variables(vars)?;
        tensors.insert(RUN.to_owned(), bytes(&rmp_serde::to_vec_named(run)?)?);
        tensors.insert(SETTINGS.to_owned(), bytes(self.settings.as_bytes())?);
        let state = optimizer.state(vars)?.into_iter();
        tensors.extend(state.map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor)));
        self.write(&tensors).with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn write(&self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let beside = self.path.with_extension("unfinished");
        std::fs::write(&beside, safetensors::serialize(tensors, None)?)?;
        Ok(std::fs::rename(&beside, &self.path)?)
    }

    /// Puts variables and optimiser back to where they were, and gives what the run remembered.
    ///
    /// # Errors
    /// There is no such file, or it is of another network or run.
    pub fn load<T: DeserializeOwned>(&self, vars: &VarMap, optimizer: &mut AdamW) -> Result<T> {
        ensure!(self.exists(), "there is no checkpoint {}", self.path.display());
        self.read(vars, optimizer)
            .with_context(|| format!("cannot go on from {}", self.path.display()))
    }

    /// Puts variables and optimiser back where `resume` asks for it and there is a file, and gives what the run
    /// remembered.
    ///
    /// # Errors
    /// The file is of another network or run.
    pub fn resumed<T: DeserializeOwned>(
        &self,
        resume: bool,
        vars: &VarMap,
        optimizer: &mut AdamW,
    ) -> Result<Option<T>> {
        if resume && self.exists() { self.load(vars, optimizer).map(Some) } else { Ok(None) }
    }

    fn read<T: DeserializeOwned>(&self, vars: &VarMap, optimizer: &mut AdamW) -> Result<T> {
        let tensors = candle_core::safetensors::load(&self.path, &Device::Cpu)?;
        let settings = String::from_utf8(text(&tensors, SETTINGS)?)?;
        let expected = &self.settings;
        ensure!(settings == *expected, "it was started with {settings}, expected {expected}");
        let run = rmp_serde::from_slice(&text(&tensors, RUN)?)?;
        optimizer.load_state(vars, &part(&tensors, OPTIMIZER))?;
        set_variables(vars, &part(&tensors, VARIABLE))?;
        Ok(run)
    }
}

fn bytes(bytes: &[u8]) -> candle_core::Result<Tensor> {
    Tensor::new(bytes, &Device::Cpu)
}

fn text(tensors: &HashMap<String, Tensor>, name: &str) -> Result<Vec<u8>> {
    let tensor = tensors.get(name).with_context(|| format!("it has no `{name}`"))?;
    Ok(tensor.to_vec1()?)
}

/// The tensors whose names start so, under the rest of their names.
fn part(tensors: &HashMap<String, Tensor>, start: &str) -> HashMap<String, Tensor> {
    let part = tensors
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(start)?.to_owned(), tensor.clone())));
    part.collect()
}

fn variables(vars: &VarMap) -> Result<HashMap<String, Tensor>> {
    let Ok(vars) = vars.data().lock() else { anyhow::bail!("the variables are poisoned") };
    let named =
        vars.iter().map(|(name, var)| (format!("{VARIABLE}{name}"), var.as_detached_tensor()));
    Ok(named.collect())
}

fn set_variables(vars: &VarMap, values: &HashMap<String, Tensor>) -> Result<()> {
    let Ok(vars) = vars.data().lock() else { anyhow::bail!("the variables are poisoned") };
    for (name, var) in vars.iter() {
        let value = values.get(name).with_context(|| format!("it has no variable `{name}`"))?;
        var.set(&value.to_device(var.device())?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use hypernn::nn::{Linear, Module, Optimizer, linear};
    use hypernn::seeded;

    use super::*;

    struct Training {
        vars: VarMap,
        net: Linear,
        optimizer: AdamW,
    }

    fn training(outputs: usize) -> Result<Training> {
        let vars = VarMap::new();
        let net = linear(3, outputs, seeded::var_builder(&vars, 1, DType::F32, &Device::Cpu))?;
        let optimizer = AdamW::new_lr(vars.all_vars(), 0.1)?;
        Ok(Training { vars, net, optimizer })
    }

    impl Training {
        fn steps(&mut self, steps: std::ops::Range<u32>) -> Result<()> {
            for step in steps {
                let xs = Tensor::new(&[[1f32, step as f32, -1.]], &Device::Cpu)?;
                self.optimizer.backward_step(&self.net.forward(&xs)?.sqr()?.sum_all()?)?;
            }
            Ok(())
        }

        fn weight(&self) -> Result<Vec<Vec<f32>>> {
            Ok(self.net.weight().to_vec2()?)
        }
    }

    #[test]
    fn a_run_goes_on_with_the_same_numbers() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let checkpoint = Checkpoint::new(folder.path(), "net", "seed 1");
        let mut whole = training(2)?;
        whole.steps(0..10)?;

        let mut interrupted = training(2)?;
        interrupted.steps(0..4)?;
        checkpoint.save(&interrupted.vars, &interrupted.optimizer, &(4u32, 0.1f64 + 0.2))?;
        let mut later = training(2)?;
        let (done, exact): (u32, f64) = checkpoint.load(&later.vars, &mut later.optimizer)?;
        assert_eq!((done, exact), (4, 0.1 + 0.2));
        later.steps(done..10)?;
        assert_eq!(later.weight()?, whole.weight()?);
        Ok(())
    }

    /// Other users may read it where they may read other new files.
    #[test]
    #[cfg(unix)]
    fn a_checkpoint_is_an_ordinary_file() -> Result<()> {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir()?;
        let net = training(2)?;
        Checkpoint::new(folder.path(), "net", "seed 1").save(&net.vars, &net.optimizer, &3u32)?;
        let files = std::fs::read_dir(folder.path())?.map(|entry| Ok(entry?.file_name()));
        assert_eq!(files.collect::<Result<Vec<_>>>()?, ["net.checkpoint"]);
        let other = folder.path().join("other");
        std::fs::write(&other, "")?;
        let mode = |path| anyhow::Ok(std::fs::metadata(path)?.permissions().mode());
        assert_eq!(mode(folder.path().join("net.checkpoint"))?, mode(other)?);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_an_error() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let [checkpoint, restarted] =
            ["seed 1", "seed 2"].map(|settings| Checkpoint::new(folder.path(), "net", settings));
        let mut own = training(2)?;
        let mut message = || match checkpoint.load::<u32>(&own.vars, &mut own.optimizer) {
            Ok(_) => String::new(),
            Err(err) => format!("{err:#}"),
        };
        let path = folder.path().join("net.checkpoint");
        assert_eq!(message(), format!("there is no checkpoint {}", path.display()));
        let cause = format!("cannot go on from {}: ", path.display());
        let other = training(5)?;
        checkpoint.save(&other.vars, &other.optimizer, &3u32)?;
        let found = message();
        assert!(found.starts_with(&cause) && found.contains("is F32 [5"), "{found}");
        restarted.save(&other.vars, &other.optimizer, &3u32)?;
        assert_eq!(message(), format!("{cause}it was started with seed 2, expected seed 1"));
        std::fs::write(&path, "not a file of tensors")?;
        assert!(message().starts_with(&cause));
        Ok(())
    }
}
