//! The training loop of the image examples.

use anyhow::Result;
use candle_core::Tensor;
use hypernn::nn::{AdamW, Optimizer, ParamsAdamW, VarMap};

use crate::args::Resume;
use crate::checkpoint::Checkpoint;
use crate::data::Batches;
use crate::progress::Progress;
use crate::train::History;

/// How variables are trained: by AdamW without weight decay, with a learning rate that rises and
/// falls, and a checkpoint after each epoch.
#[derive(Clone, Debug)]
pub struct Fit<'a> {
    /// What is trained.
    pub name: &'a str,
    /// Passes over the data.
    pub epochs: usize,
    /// The highest learning rate.
    pub peak: f64,
    /// Where the run is kept.
    pub checkpoint: Checkpoint,
    /// Whether it goes on from there.
    pub resume: Resume,
}

impl Fit<'_> {
    /// Trains: `loss` is that of a step, by the step's number, images and labels; `test` gives the
    /// accuracy after an epoch. Nothing here knows whether weights are generated.
    ///
    /// # Errors
    /// That of `loss` or `test`, a loss that is not finite, or a checkpoint that does not fit.
    pub fn run(
        &self,
        vars: &VarMap,
        batches: Batches<'_>,
        loss: impl Fn(usize, &Tensor, &Tensor) -> Result<Tensor>,
        test: impl Fn() -> Result<f64>,
    ) -> Result<History> {
        let params = ParamsAdamW { lr: self.peak, weight_decay: 0., ..Default::default() };
        let mut optimizer = AdamW::new(vars.all_vars(), params)?;
        let mut progress = Progress::new(self.name, self.epochs, batches.per_epoch())?;
        progress.resume(self.resume, &self.checkpoint, (vars, &mut optimizer))?;
        let mut batches = batches.after(progress.epochs_done());
        while !progress.is_complete() {
            for batch in batches.epoch() {
                let (images, labels) = batch?;
                optimizer.set_learning_rate(progress.cosine(self.peak));
                let loss = loss(progress.steps_done(), &images, &labels)?;
                optimizer.backward_step(&loss)?;
                progress.step(&loss, optimizer.learning_rate())?;
            }
            progress.epoch(test()?);
            self.checkpoint.save(vars, &optimizer, progress.history())?;
        }
        Ok(progress.finish())
    }
}
