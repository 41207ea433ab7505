//! The training of what has an adapter for each task.

use anyhow::Result;
use candle_core::Var;
use hypernn::nn::VarMap;
use hypernn_examples::checkpoint::Checkpoint;
use hypernn_examples::random::rng_of;
use hypernn_examples::training::{History, Length, Training, Variables};

use crate::adapters::{TrainableAdapters, mean, scores};
use crate::prepared::{Drawn, Prepared};
use crate::run::Run;

/// What is trained, for how long, and on what.
pub struct Trained<'a> {
    /// As tables and files name it.
    pub name: &'a str,
    /// The steps.
    pub steps: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// All variables, which a checkpoint keeps.
    pub vars: &'a VarMap,
    /// Those that are trained.
    pub trained: Vec<Var>,
    /// The tasks to train on.
    pub tasks: &'a [Prepared],
    /// The tasks to measure with, ten times.
    pub measured: &'a [Prepared],
}

/// Trains adapters on questions of tasks, drawn for each step.
///
/// # Errors
/// A loss that is not finite, or a checkpoint that does not fit.
pub fn train(run: &Run, adapters: &impl TrainableAdapters, what: Trained<'_>) -> Result<History> {
    let args = &run.args;
    let training = Training {
        name: what.name,
        length: Length::Steps { steps: what.steps, rounds: 10, measured: "right answers" },
        learning_rate: what.learning_rate,
        weight_decay: 0.05,
        checkpoint: Checkpoint::new(&run.out, what.name, format!("{args:?}")),
        resume: args.run.resume,
    };
    let loss = |step: usize| {
        let mut rng = rng_of([args.run.common.seed, step as u64, 1, 0]);
        let drawn = Drawn::new(what.tasks, args.tasks as usize, args.questions as usize, &mut rng)?;
        drawn.batch.loss(&adapters.drawn(&drawn)?)
    };
    let measure = || Ok(mean(&scores(adapters, what.measured, true)?));
    training.run(Variables { all: what.vars, trained: what.trained.clone() }, loss, measure)
}
