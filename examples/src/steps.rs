//! Training by steps, in rounds: a measurement and a checkpoint after each.

use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::Tensor;
use hypernn::nn::{AdamW, Optimizer, VarMap};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use crate::args::Resume;
use crate::checkpoint::Checkpoint;
use crate::progress::bar;
use crate::train::{cosine, loss_value};

/// How a network is trained.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The network's name.
    pub name: &'a str,
    /// The number of steps.
    pub steps: usize,
    /// The number of rounds that they are in.
    pub rounds: usize,
    /// The highest learning rate, of [`cosine`].
    pub learning_rate: f64,
    /// The name of what is measured after each round.
    pub measured: &'a str,
    /// Where the run is kept.
    pub checkpoint: Checkpoint,
    /// Whether it goes on from there.
    pub resume: Resume,
}

/// The course of a run, round by round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// The network's name.
    pub name: String,
    /// The number of steps done.
    pub steps: usize,
    /// The mean loss of each round.
    pub loss: Vec<f64>,
    /// What was measured after each.
    pub measured: Vec<f64>,
    /// How long it took, interruptions left out.
    pub seconds: f64,
}

impl Plan<'_> {
    /// Trains variables by AdamW: `loss` is that of a step, `measure` is called after each round.
    ///
    /// # Errors
    /// Those of `loss` and `measure`, a loss that is not finite, or a checkpoint that does not fit.
    pub fn train(
        &self,
        vars: &VarMap,
        mut loss: impl FnMut(usize) -> Result<Tensor>,
        mut measure: impl FnMut() -> Result<f64>,
    ) -> Result<Course> {
        let mut optimizer = AdamW::new_lr(vars.all_vars(), self.learning_rate)?;
        let mut course = self.start(vars, &mut optimizer)?;
        let bar = self.bar(course.steps)?;
        while course.steps < self.steps {
            let (start, mut losses) = (Instant::now(), Vec::new());
            for step in self.round(course.steps) {
                optimizer.set_learning_rate(cosine(self.learning_rate, step, self.steps));
                let loss = loss(step)?;
                optimizer.backward_step(&loss)?;
                losses.push(loss_value(&loss)?);
                bar.set_message(format!("loss {:.4}", losses[losses.len() - 1]));
                bar.inc(1);
            }
            course.push(&losses, measure()?, start.elapsed());
            self.checkpoint.save(vars, &optimizer, &course)?;
            bar.suspend(|| println!("{}", self.line(&course)));
        }
        bar.finish_and_clear();
        Ok(course)
    }

    /// From the checkpoint, where that is asked for and there is one.
    fn start(&self, vars: &VarMap, optimizer: &mut AdamW) -> Result<Course> {
        let resumed = self.checkpoint.resumed::<Course>(self.resume, (vars, optimizer))?;
        let Some(course) = resumed else { return Ok(Course::start(self.name)) };
        println!("{}: goes on after step {}", self.name, course.steps);
        Ok(course)
    }

    /// The steps of the round that begins with this one.
    fn round(&self, first: usize) -> std::ops::Range<usize> {
        first..self.steps.min(first + self.steps.div_ceil(self.rounds.max(1)))
    }

    fn bar(&self, done: usize) -> Result<ProgressBar> {
        let bar = bar(self.name, self.steps)?.with_position(done as u64);
        bar.reset_eta();
        Ok(bar)
    }

    fn line(&self, course: &Course) -> String {
        let last = |values: &[f64]| values.last().copied().unwrap_or(f64::NAN);
        let (loss, measured) = (last(&course.loss), last(&course.measured));
        let (name, of, steps) = (self.name, self.steps, course.steps);
        format!("{name}: step {steps}/{of}, loss {loss:.5}, {} {measured:.5}", self.measured)
    }
}

impl Course {
    fn start(name: &str) -> Self {
        let (loss, measured) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), steps: 0, loss, measured, seconds: 0. }
    }

    fn push(&mut self, losses: &[f64], measured: f64, time: Duration) {
        self.steps += losses.len();
        self.loss.push(losses.iter().sum::<f64>() / losses.len() as f64);
        self.measured.push(measured);
        self.seconds += time.as_secs_f64();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::{DType, Device};
    use hypernn::nn::{Module, linear};
    use hypernn::seeded;
    use rand::Rng;

    use super::*;
    use crate::random::rng_of;

    /// Trains a line; at this step, if any, the run is interrupted. Its course and its weights.
    fn run(folder: &Path, interrupted: Option<usize>, resume: bool) -> Result<(Course, Vec<f32>)> {
        let vars = VarMap::new();
        let net = linear(2, 1, seeded::var_builder(&vars, 1, DType::F32, &Device::Cpu))?;
        let loss = |step| {
            anyhow::ensure!(interrupted != Some(step), "interrupted");
            let xs: [[f32; 2]; 1] = [[rng_of([3, step as u64, 0, 0]).random(), 1.]];
            Ok(net.forward(&Tensor::new(&xs, &Device::Cpu)?)?.sqr()?.sum_all()?)
        };
        let plan = Plan {
            name: "line",
            steps: 11,
            rounds: 4,
            learning_rate: 0.1,
            measured: "weight",
            checkpoint: Checkpoint::new(folder, "line", "seed 3"),
            resume: Resume { resume },
        };
        let measure = || Ok(f64::from(net.weight().sum_all()?.to_scalar::<f32>()?));
        let mut course = plan.train(&vars, loss, measure)?;
        course.seconds = 0.;
        Ok((course, net.weight().flatten_all()?.to_vec1()?))
    }

    #[test]
    fn an_interruption_changes_nothing() -> Result<()> {
        let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
        let whole = run(folders[0].path(), None, true)?;
        assert_eq!((whole.0.steps, whole.0.loss.len(), whole.0.measured.len()), (11, 4, 4));
        let interrupted = run(folders[1].path(), Some(7), false).err().map(|err| err.to_string());
        assert_eq!(interrupted.as_deref(), Some("interrupted"));
        assert_eq!(run(folders[1].path(), None, true)?, whole);
        // What is finished stays as it is.
        assert_eq!(run(folders[1].path(), Some(0), true)?, whole);
        Ok(())
    }
}
