//! The training loop of the examples: rounds of steps, a measurement and a checkpoint after each.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use candle_core::{Tensor, Var};
use hypernn::nn::{AdamW, Optimizer, ParamsAdamW, VarMap};
use hypernn::parallel::{AllReduce, DataParallel};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::progress::bar;
use crate::train::{cosine, loss_value};

/// How a network is trained: by AdamW, with a learning rate that rises and falls.
#[derive(Clone, Debug)]
pub struct Training<'a> {
    /// The network's name.
    pub name: &'a str,
    /// The steps, and what is measured in between.
    pub length: Length<'a>,
    /// The highest learning rate, of [`cosine`].
    pub learning_rate: f64,
    /// What a step takes from each variable, as a share of it for a learning rate of one.
    pub weight_decay: f64,
    /// Where the run is kept.
    pub checkpoint: Checkpoint,
    /// Whether it goes on from there.
    pub resume: bool,
}

/// How long a network is trained, in rounds.
#[derive(Clone, Copy, Debug)]
pub enum Length<'a> {
    /// Passes over the data, after each of which the accuracy on test images is measured.
    Epochs {
        /// The number of passes.
        epochs: usize,
        /// The number of steps in each.
        steps: usize,
    },
    /// Steps.
    Steps {
        /// The number of all steps.
        steps: usize,
        /// The number of rounds that they are in.
        rounds: usize,
        /// The name of what is measured after each round.
        measured: &'a str,
    },
}

/// The variables of a network.
#[derive(Clone)]
pub struct Variables<'a> {
    /// Those that a checkpoint has to keep.
    pub all: &'a VarMap,
    /// Those that the optimiser moves.
    pub trained: Vec<Var>,
}

/// The course of a run, round by round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
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

impl Training<'_> {
    /// Trains: `loss` is that of a step by its number, counted over all rounds, and `measure` is called after
    /// each round. Nothing here knows whether weights are generated.
    ///
    /// # Errors
    /// Those of `loss` and `measure`, a loss that is not finite, or a checkpoint that does not fit.
    pub fn run(
        &self,
        variables: Variables<'_>,
        mut loss: impl FnMut(usize) -> Result<Tensor>,
        mut measure: impl FnMut() -> Result<f64>,
    ) -> Result<History> {
        let Variables { all, trained } = variables;
        let optimizer = AdamW::new(trained, self.adam_w())?;
        let mut steps = Alone { vars: all, optimizer, loss: &mut loss };
        self.rounds(&mut steps, &mut measure)
    }

    /// Trains by several ranks: `loss` is that of this rank's share of a step, with the number of its samples, or
    /// none where it has no share. The first rank measures, prints and writes the checkpoint. Also gives the bytes
    /// that a rank has put into sums in each step.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), of any rank.
    pub fn run_by_ranks(
        &self,
        rank: &dyn AllReduce,
        variables: Variables<'_>,
        mut loss: impl FnMut(usize) -> Result<Option<(usize, Tensor)>>,
        mut measure: impl FnMut() -> Result<f64>,
    ) -> Result<(History, u64)> {
        let Variables { all, trained } = variables;
        let optimizer = DataParallel::new(rank, all, trained, self.adam_w())?;
        let mut steps = ByRanks { vars: all, optimizer, first: 0, loss: &mut loss };
        let mut measure = || if rank.rank() == 0 { measure() } else { Ok(f64::NAN) };
        let history = self.rounds(&mut steps, &mut measure)?;
        let taken = (steps.optimizer.steps() - steps.first).max(1) as u64;
        let bytes = steps.optimizer.traffic() / taken;
        steps.optimizer.finish()?;
        Ok((history, bytes))
    }

    fn rounds(
        &self,
        steps: &mut impl Steps,
        measure: &mut impl FnMut() -> Result<f64>,
    ) -> Result<History> {
        let mut history = self.start(steps)?;
        let bar = if steps.speaks() { self.bar(history.steps)? } else { ProgressBar::hidden() };
        while history.steps < self.length.steps() {
            let start = Instant::now();
            let losses = self.round(history.steps, steps, &bar)?;
            history.push(&losses, measure()?, start.elapsed());
            steps.save(&self.checkpoint, &history)?;
            if steps.speaks() {
                bar.suspend(|| println!("{}", self.line(&history)));
            }
        }
        bar.finish_and_clear();
        Ok(history)
    }

    fn adam_w(&self) -> ParamsAdamW {
        let (lr, weight_decay) = (self.learning_rate, self.weight_decay);
        ParamsAdamW { lr, weight_decay, ..Default::default() }
    }

    /// From the checkpoint, where that is asked for and there is one.
    fn start(&self, steps: &mut impl Steps) -> Result<History> {
        let resumed = steps.resumed(&self.checkpoint, self.resume)?;
        let Some(history) = resumed else { return Ok(History::start(self.name)) };
        if steps.speaks() {
            println!("{}: goes on after {}", self.name, self.length.done(&history));
        }
        Ok(history)
    }

    /// The losses of a round, which begins with this step.
    fn round(&self, first: usize, steps: &mut impl Steps, bar: &ProgressBar) -> Result<Vec<f64>> {
        let losses = self.length.round(first).map(|step| {
            let rate = cosine(self.learning_rate, step, self.length.steps());
            let value = steps.step(step, rate)?;
            bar.set_message(format!("loss {value:.4}, learning rate {rate:.1e}"));
            bar.inc(1);
            Ok(value)
        });
        losses.collect()
    }

    fn bar(&self, done: usize) -> Result<ProgressBar> {
        let bar = bar(self.name, self.length.steps())?.with_position(done as u64);
        bar.reset_eta();
        Ok(bar)
    }

    fn line(&self, history: &History) -> String {
        let last = |values: &[f64]| values.last().copied().unwrap_or(f64::NAN);
        let (name, loss, measured) = (self.name, last(&history.loss), history.last());
        match self.length {
            Length::Epochs { epochs, .. } => {
                let (epoch, percent) = (history.loss.len(), 100. * measured);
                format!(
                    "{name}: epoch {epoch:>2}/{epochs}, loss {loss:.4}, test accuracy {percent:.2} %"
                )
            }
            Length::Steps { steps, measured: what, .. } => {
                let step = history.steps;
                format!("{name}: step {step}/{steps}, loss {loss:.5}, {what} {measured:.5}")
            }
        }
    }
}

/// What takes the steps of a training.
trait Steps {
    /// One step, and its loss.
    fn step(&mut self, step: usize, learning_rate: f64) -> Result<f64>;

    /// The course of the run so far, where it goes on from a checkpoint.
    fn resumed(&mut self, checkpoint: &Checkpoint, resume: bool) -> Result<Option<History>>;

    fn save(&mut self, checkpoint: &Checkpoint, history: &History) -> Result<()>;

    /// Whether it is this rank that says how it goes.
    fn speaks(&self) -> bool;
}

/// An optimiser by itself.
struct Alone<'a, L> {
    vars: &'a VarMap,
    optimizer: AdamW,
    loss: &'a mut L,
}

impl<L: FnMut(usize) -> Result<Tensor>> Steps for Alone<'_, L> {
    fn step(&mut self, step: usize, learning_rate: f64) -> Result<f64> {
        self.optimizer.set_learning_rate(learning_rate);
        let loss = (self.loss)(step)?;
        self.optimizer.backward_step(&loss)?;
        loss_value(&loss)
    }

    fn resumed(&mut self, checkpoint: &Checkpoint, resume: bool) -> Result<Option<History>> {
        checkpoint.resumed(resume, self.vars, &mut self.optimizer)
    }

    fn save(&mut self, checkpoint: &Checkpoint, history: &History) -> Result<()> {
        checkpoint.save(self.vars, &self.optimizer, history)
    }

    fn speaks(&self) -> bool {
        true
    }
}

/// The same optimiser over several ranks.
struct ByRanks<'a, L> {
    vars: &'a VarMap,
    optimizer: DataParallel<AdamW, &'a dyn AllReduce>,
    /// The step that it began with.
    first: usize,
    loss: &'a mut L,
}

impl<L: FnMut(usize) -> Result<Option<(usize, Tensor)>>> Steps for ByRanks<'_, L> {
    fn step(&mut self, step: usize, learning_rate: f64) -> Result<f64> {
        self.optimizer.optimizer_mut().set_learning_rate(learning_rate);
        // Others are told of an error by the step itself.
        let (samples, loss) = match (self.loss)(step) {
            Ok(Some((samples, loss))) => (samples, Ok(loss)),
            Ok(None) => (0, Err(candle_core::Error::msg("no samples"))),
            Err(err) => (1, Err(candle_core::Error::msg(format!("{err:#}")))),
        };
        let value = self.optimizer.backward_step(samples, || loss)?;
        ensure!(value.is_finite(), "the loss is {value}: try a smaller learning rate");
        Ok(value)
    }

    /// The first rank reads. What was measured is known to it alone.
    fn resumed(&mut self, checkpoint: &Checkpoint, resume: bool) -> Result<Option<History>> {
        let read = if self.speaks() {
            checkpoint.resumed::<History>(resume, self.vars, self.optimizer.optimizer_mut())
        } else {
            Ok(None)
        };
        let read = read.map_err(|err| candle_core::Error::msg(format!("{err:#}")));
        let read = self.optimizer.agree(read)?;
        self.optimizer.synchronize(read.as_ref().map_or(0, |history| history.steps))?;
        self.first = self.optimizer.steps();
        if self.speaks() || self.first == 0 {
            return Ok(read);
        }
        Ok(Some(History { steps: self.first, ..History::start("") }))
    }

    fn save(&mut self, checkpoint: &Checkpoint, history: &History) -> Result<()> {
        let written = match self.speaks() {
            true => checkpoint.save(self.vars, self.optimizer.optimizer(), history),
            false => Ok(()),
        };
        let written = written.map_err(|err| candle_core::Error::msg(format!("{err:#}")));
        Ok(self.optimizer.agree(written)?)
    }

    fn speaks(&self) -> bool {
        self.optimizer.comm().rank() == 0
    }
}

impl Length<'_> {
    /// The number of all steps.
    fn steps(self) -> usize {
        match self {
            Self::Epochs { epochs, steps } => epochs * steps,
            Self::Steps { steps, .. } => steps,
        }
    }

    /// The steps of the round that begins with this one.
    fn round(self, first: usize) -> Range<usize> {
        let count = match self {
            Self::Epochs { steps, .. } => steps,
            Self::Steps { steps, rounds, .. } => steps.div_ceil(rounds.max(1)),
        };
        first..self.steps().min(first + count)
    }

    /// What is done, in words.
    fn done(self, history: &History) -> String {
        match self {
            Self::Epochs { .. } => format!("epoch {}", history.loss.len()),
            Self::Steps { .. } => format!("step {}", history.steps),
        }
    }
}

impl<'a> Variables<'a> {
    /// All are trained: those of a network without a hypernetwork.
    pub fn plain(all: &'a VarMap) -> Self {
        Self { all, trained: all.all_vars() }
    }
}

impl History {
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

    /// What was measured after the last round, not a number before the first.
    pub fn last(&self) -> f64 {
        self.measured.last().copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::{DType, Device};
    use hypernn::nn::{Module, linear};
    use hypernn::parallel::Threads;
    use hypernn::seeded;
    use rand::Rng;

    use super::*;
    use crate::random::rng_of;

    const STEPS: Length<'_> = Length::Steps { steps: 11, rounds: 4, measured: "weight" };

    /// Trains a line; at this step, if any, the run is interrupted. Its course and its weights.
    fn run(folder: &Path, interrupted: Option<usize>, resume: bool) -> Result<(History, Vec<f32>)> {
        let vars = VarMap::new();
        let net = linear(2, 1, seeded::var_builder(&vars, 1, DType::F32, &Device::Cpu))?;
        let loss = |step| {
            anyhow::ensure!(interrupted != Some(step), "interrupted");
            let xs: [[f32; 2]; 1] = [[rng_of([3, step as u64, 0, 0]).random(), 1.]];
            Ok(net.forward(&Tensor::new(&xs, &Device::Cpu)?)?.sqr()?.sum_all()?)
        };
        let training = Training {
            name: "line",
            length: STEPS,
            learning_rate: 0.1,
            weight_decay: 0.01,
            checkpoint: Checkpoint::new(folder, "line", "seed 3"),
            resume,
        };
        let measure = || Ok(f64::from(net.weight().sum_all()?.to_scalar::<f32>()?));
        let mut history = training.run(Variables::plain(&vars), loss, measure)?;
        history.seconds = 0.;
        Ok((history, net.weight().flatten_all()?.to_vec1()?))
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

    /// The same line by two ranks, which share each step's two rows.
    fn run_by_ranks(
        folder: &Path,
        interrupted: Option<usize>,
        resume: bool,
    ) -> Result<(History, Vec<f32>)> {
        let ranks = Threads::run(2, |rank| -> Result<_> {
            let vars = VarMap::new();
            let net = linear(2, 1, seeded::var_builder(&vars, 1, DType::F32, &Device::Cpu))?;
            let loss = |step| {
                anyhow::ensure!(interrupted != Some(step), "interrupted");
                let place = [3, step as u64, rank.rank() as u64, 0];
                let xs: [[f32; 2]; 1] = [[rng_of(place).random(), 1.]];
                let xs = Tensor::new(&xs, &Device::Cpu)?;
                // The second rank has no share of some steps.
                let has_share = rank.rank() == 0 || step % 3 > 0;
                let loss = || net.forward(&xs)?.sqr()?.sum_all();
                Ok(has_share.then(loss).transpose()?.map(|loss| (1, loss)))
            };
            let training = Training {
                name: "line",
                length: STEPS,
                learning_rate: 0.1,
                weight_decay: 0.01,
                checkpoint: Checkpoint::new(folder, "line", "seed 3"),
                resume,
            };
            let measure = || Ok(f64::from(net.weight().sum_all()?.to_scalar::<f32>()?));
            let (mut history, bytes) =
                training.run_by_ranks(rank, Variables::plain(&vars), loss, measure)?;
            assert!(bytes > 12);
            history.seconds = 0.;
            Ok((history, net.weight().flatten_all()?.to_vec1::<f32>()?))
        })?;
        assert_eq!(ranks[0].1, ranks[1].1);
        Ok(ranks[0].clone())
    }

    #[test]
    fn an_interruption_of_ranks_changes_nothing() -> Result<()> {
        let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
        let whole = run_by_ranks(folders[0].path(), None, true)?;
        assert_eq!((whole.0.steps, whole.0.loss.len(), whole.0.measured.len()), (11, 4, 4));
        let interrupted = run_by_ranks(folders[1].path(), Some(7), false).err();
        assert!(interrupted.is_some_and(|err| err.to_string().contains("interrupted")));
        assert_eq!(run_by_ranks(folders[1].path(), None, true)?, whole);
        Ok(())
    }

    #[test]
    fn rounds_share_out_the_steps() {
        let rounds = |length: Length<'_>, firsts: &[usize]| {
            firsts.iter().map(|&first| length.round(first)).collect::<Vec<_>>()
        };
        assert_eq!(rounds(STEPS, &[0, 3, 6, 9]), [0..3, 3..6, 6..9, 9..11]);
        let epochs = Length::Epochs { epochs: 2, steps: 5 };
        assert_eq!((epochs.steps(), rounds(epochs, &[0, 5])), (10, vec![0..5, 5..10]));
    }
}
