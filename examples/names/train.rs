//! Training and evaluation, one name at a time.

use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use hypernn::nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use hypernn::seeded;
use hypernn_examples::checkpoint::Checkpoint;
use hypernn_examples::progress;
use hypernn_examples::random::rng_of;
use hypernn_examples::train::{clip, loss_value, mean};
use serde::Serialize;

use crate::corpus::{Language, Name, inputs, next_letters};
use crate::run::Run;

/// Gradients are clipped at this norm, as in the notebook.
const CLIP: f64 = 10.;
/// The result is the mean loss over this many names at the end.
pub const WINDOW: usize = 500;

/// Spells names.
pub trait Speller {
    /// From `[1, letters, WIDTH]` the log-probabilities of the letter after each, `[letters, LETTERS]`.
    fn spell(&self, xs: &Tensor) -> candle_core::Result<Tensor>;

    /// What the optimiser moves of these variables, all that there are.
    fn trained(&self, vars: &VarMap) -> Vec<Var>;
}

/// A network that takes part.
pub struct Entrant<N> {
    /// Its name, also that of its files.
    pub name: &'static str,
    /// With new variables.
    pub new: fn(VarBuilder<'_>) -> candle_core::Result<N>,
    /// The highest.
    pub learning_rate: f64,
}

/// What came of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Of variables and names.
    pub seed: u64,
    /// Nats per letter of each name before the step on it.
    #[serde(skip)]
    pub losses: Vec<f64>,
    /// Nats per letter, the mean over the last names trained on.
    pub nats_per_letter: f64,
    /// Nats per letter of names that were not trained on, each language counting as much.
    pub held_out: f64,
}

/// A run in progress.
struct Training<'a, N> {
    run: &'a Run,
    learning_rate: f64,
    net: N,
    vars: VarMap,
    optimizer: AdamW,
    seed: u64,
    losses: Vec<f64>,
}

/// Trains a network of this seed, or takes an interrupted run up again.
pub fn train<N: Speller>(run: &Run, entrant: &Entrant<N>, seed: u64) -> Result<(N, Outcome)> {
    let mut training = Training::new(run, entrant, seed)?;
    let title = format!("{}, seed {seed}", entrant.name);
    let checkpoint = run.checkpoint(entrant.name, seed, entrant.learning_rate);
    let (resume, vars) = (run.args.run.resume, &training.vars);
    if let Some(losses) = checkpoint.resumed(resume, vars, &mut training.optimizer)? {
        training.losses = losses;
        println!("{title}: goes on after {} names", training.losses.len());
    }
    training.all(&title, &checkpoint)?;
    training.finish()
}

impl<'a, N: Speller> Training<'a, N> {
    fn new(run: &'a Run, entrant: &Entrant<N>, seed: u64) -> Result<Self> {
        let vars = VarMap::new();
        let net = (entrant.new)(seeded::var_builder(&vars, seed, DType::F32, &run.device))?;
        let adam = ParamsAdamW { weight_decay: 0., ..Default::default() };
        let optimizer = AdamW::new(net.trained(&vars), adam)?;
        let learning_rate = entrant.learning_rate;
        Ok(Self { run, learning_rate, net, vars, optimizer, seed, losses: Vec::new() })
    }

    fn all(&mut self, title: &str, checkpoint: &Checkpoint) -> Result<()> {
        let bar = progress::bar(title, self.run.count())?;
        bar.set_position(self.losses.len() as u64);
        while self.losses.len() < self.run.count() {
            self.step()?;
            let (names, recent) = (self.losses.len(), self.recent());
            bar.set_message(format!("{recent:.3} nats per letter"));
            bar.inc(1);
            if names.is_multiple_of(self.run.save_every()) || names == self.run.count() {
                checkpoint.save(&self.vars, &self.optimizer, &self.losses)?;
                bar.suspend(|| println!("{title}: {names} names, {recent:.3} nats per letter"));
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// One name, which seed and number decide.
    fn step(&mut self) -> Result<()> {
        let number = self.losses.len();
        let (language, name) = self.run.corpus.draw(&mut rng_of([self.seed, 0, number as u64, 0]));
        let loss = loss(&self.net, language, name, &self.run.device)?;
        let mut grads = loss.backward()?;
        clip(&mut grads, &self.vars, CLIP)?;
        self.optimizer.set_learning_rate(self.run.learning_rate(self.learning_rate, number));
        self.optimizer.step(&grads)?;
        self.losses.push(loss_value(&loss)? / name.len() as f64);
        Ok(())
    }

    /// The mean loss over the last names.
    fn recent(&self) -> f64 {
        mean(self.losses[self.losses.len().saturating_sub(WINDOW)..].iter().copied())
    }

    fn finish(self) -> Result<(N, Outcome)> {
        let (nats_per_letter, held_out) = (self.recent(), held_out(&self.net, self.run)?);
        let Self { net, seed, losses, .. } = self;
        Ok((net, Outcome { seed, losses, nats_per_letter, held_out }))
    }
}

/// What a name costs, the sum over its letters.
fn loss(net: &impl Speller, language: usize, name: &[u32], device: &Device) -> Result<Tensor> {
    let log_probs = net.spell(&inputs(language, name, device)?)?;
    Ok(log_probs.gather(&next_letters(name, device)?, 1)?.sum_all()?.neg()?)
}

/// Nats per letter of names not trained on: the mean over languages of the mean over names.
fn held_out(net: &impl Speller, run: &Run) -> Result<f64> {
    let nats_per_letter = |language: usize, name: &Name| {
        Ok(loss_value(&loss(net, language, name, &run.device)?)? / name.len() as f64)
    };
    let of_language = |(number, language): (usize, &Language)| {
        let each = language.held_out.iter().map(|name| nats_per_letter(number, name));
        Ok(mean(each.collect::<Result<Vec<_>>>()?))
    };
    let each = run.corpus.0.iter().enumerate().map(of_language);
    Ok(mean(each.collect::<Result<Vec<_>>>()?))
}
