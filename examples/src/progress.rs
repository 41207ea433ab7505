//! The progress of a training run, on the screen and on record.

use std::time::Duration;

use anyhow::Result;
use candle_core::Tensor;
use hypernn::nn::{AdamW, VarMap};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::Resume;
use crate::checkpoint::Checkpoint;
use crate::train::{History, cosine, loss_value};

/// What a progress bar shows.
const TEMPLATE: &str = "{prefix} {wide_bar:.cyan/blue} {msg}  {eta} left";

/// A bar of `steps` steps with room for a message, drawn only in a terminal.
///
/// # Errors
/// indicatif's own.
pub fn bar(name: &str, steps: usize) -> Result<ProgressBar> {
    let bar = ProgressBar::new(steps as u64)
        .with_style(ProgressStyle::with_template(TEMPLATE)?)
        .with_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    Ok(bar)
}

/// The progress of one training run: a bar with loss, learning rate and time left, and a line with
/// the test accuracy after each epoch.
///
/// The bar is drawn only in a terminal; the lines are printed everywhere.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    epochs: usize,
    steps: usize,
    losses: Vec<f64>,
    history: History,
}

impl Progress {
    /// Starts a run of `epochs` epochs of `steps` steps each.
    ///
    /// # Errors
    /// indicatif's own.
    pub fn new(name: &str, epochs: usize, steps: usize) -> Result<Self> {
        let bar = bar(name, epochs * steps)?;
        let history = History::start(name);
        Ok(Self { bar, epochs, steps, losses: Vec::new(), history })
    }

    /// Goes on from a checkpoint of this network, where that is asked for and there is one.
    ///
    /// # Errors
    /// The checkpoint is of another run, or can't be read.
    pub fn resume(
        &mut self,
        resume: Resume,
        checkpoint: &Checkpoint,
        trained: (&VarMap, &mut AdamW),
    ) -> Result<()> {
        let Some(history) = checkpoint.resumed::<History>(resume, trained)? else { return Ok(()) };
        self.history = history.resumed();
        let (name, done) = (&self.history.name, self.epochs_done());
        self.bar.suspend(|| println!("{name}: goes on after epoch {done}"));
        self.bar.set_position((done * self.steps) as u64);
        Ok(())
    }

    /// Whether all epochs are done.
    pub fn is_complete(&self) -> bool {
        self.epochs_done() >= self.epochs
    }

    /// The number of epochs that are done.
    pub fn epochs_done(&self) -> usize {
        self.history.loss.len()
    }

    /// The number of steps that are done, over all epochs.
    pub fn steps_done(&self) -> usize {
        self.bar.position() as usize
    }

    /// The course of the run so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The learning rate of the step to come: a short rise to `peak`, then half a cosine to zero.
    pub fn cosine(&self, peak: f64) -> f64 {
        cosine(peak, self.steps_done(), self.bar.length().unwrap_or(0) as usize)
    }

    /// One step is done.
    ///
    /// # Errors
    /// The loss is not finite.
    pub fn step(&mut self, loss: &Tensor, learning_rate: f64) -> Result<()> {
        let loss = loss_value(loss)?;
        self.losses.push(loss);
        self.bar.set_message(format!("loss {loss:.4}, learning rate {learning_rate:.1e}"));
        self.bar.inc(1);
        Ok(())
    }

    /// One epoch is done: its mean loss and this test accuracy go on record.
    pub fn epoch(&mut self, accuracy: f64) {
        let loss = self.losses.iter().sum::<f64>() / self.losses.len().max(1) as f64;
        self.losses.clear();
        self.history.push(loss, accuracy);
        self.bar.suspend(|| println!("{}", self.line(loss, accuracy)));
    }

    fn line(&self, loss: f64, accuracy: f64) -> String {
        let (name, epoch, epochs) = (&self.history.name, self.history.loss.len(), self.epochs);
        let percent = 100. * accuracy;
        format!("{name}: epoch {epoch:>2}/{epochs}, loss {loss:.4}, test accuracy {percent:.2} %")
    }

    /// Removes the bar; the course of the run.
    pub fn finish(self) -> History {
        self.bar.finish_and_clear();
        self.history
    }
}
