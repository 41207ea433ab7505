//! Tasks with their questions as sequences and their descriptions as vectors.

use anyhow::Result;
use candle_core::{Device, Tensor};
use hypernn_models::Decoder;
use rand::Rng;
use rand::seq::index::sample;

use crate::sentences::{Sentences, WIDTH};
use crate::sequences::{Batch, Sequence, Writing, compute_states};
use crate::tasks::Task;

/// The largest noise on a value of a description's vector, whose values have a mean square of 1.
const NOISE: f32 = 0.8;

/// A task that is ready to be trained or tested.
pub struct Prepared {
    /// Questions to train on.
    train: Vec<Sequence>,
    /// Questions to test with.
    test: Vec<Sequence>,
    /// Its descriptions to train on, a row each.
    trained: Tensor,
    /// The description that no training has seen, `[1, WIDTH]`.
    tested: Tensor,
}

/// What makes tasks ready.
#[derive(Clone, Copy)]
pub struct Preparation<'a> {
    /// How tokens are made of questions.
    pub writing: Writing<'a>,
    /// How vectors are made of descriptions.
    pub sentences: &'a Sentences,
}

impl Preparation<'_> {
    /// Tasks that are ready, but for their states.
    ///
    /// # Errors
    /// The tokenizer's and the encoder's own.
    pub fn tasks(&self, tasks: &[Task]) -> Result<Vec<Prepared>> {
        tasks.iter().map(|task| self.task(task)).collect()
    }

    fn task(&self, task: &Task) -> Result<Prepared> {
        let (trained, tested) = (task.trained_descriptions(), task.tested_description());
        let train = task.train.iter().zip(trained.iter().cycle());
        let train =
            train.map(|(question, description)| self.writing.sequence(description, question));
        let test = task.test.iter().map(|question| self.writing.sequence(&tested, question));
        Ok(Prepared {
            train: train.collect::<Result<_>>()?,
            test: test.collect::<Result<_>>()?,
            trained: self.sentences.encode(&trained)?,
            tested: self.sentences.encode(&[tested])?,
        })
    }
}

/// Computes the states of all questions, by the model without adapters.
///
/// # Errors
/// candle's own.
pub fn compute<'t>(decoder: &Decoder, tasks: impl Iterator<Item = &'t mut Prepared>) -> Result<()> {
    let questions = tasks.flat_map(|task| task.train.iter_mut().chain(&mut task.test));
    let mut questions: Vec<_> = questions.collect();
    let bar = hypernn_examples::progress::bar("questions", questions.len())?;
    compute_states(decoder, &mut questions, |count| bar.inc(count as u64))?;
    bar.finish_and_clear();
    Ok(())
}

/// Questions of some tasks, drawn for a step of training.
pub struct Drawn {
    /// Their places among the tasks.
    pub tasks: Vec<usize>,
    /// A description of each, `[tasks, WIDTH]`.
    pub vectors: Tensor,
    /// As many questions of each, one task after the other.
    pub batch: Batch,
}

impl Drawn {
    /// So many tasks, and so many questions of each.
    ///
    /// # Errors
    /// candle's own.
    pub fn new(
        tasks: &[Prepared],
        count: usize,
        questions: usize,
        rng: &mut impl Rng,
    ) -> Result<Self> {
        let drawn = sample(rng, tasks.len(), count.min(tasks.len())).into_vec();
        let mut sequences = Vec::new();
        let mut vectors = Vec::new();
        for task in drawn.iter().map(|at| &tasks[*at]) {
            vectors.push(task.varied(rng)?);
            let some = (0..questions).map(|_| &task.train[rng.random_range(0..task.train.len())]);
            sequences.extend(some);
        }
        Ok(Self {
            tasks: drawn,
            vectors: Tensor::stack(&vectors, 0)?,
            batch: Batch::new(&sequences)?,
        })
    }
}

impl Prepared {
    /// A description as no one wrote it: a mixture of two to train on, with noise, so that what lies between and near
    /// descriptions means the same.
    fn varied(&self, rng: &mut impl Rng) -> Result<Tensor> {
        let [first, second] = [(); 2].map(|()| rng.random_range(0..self.trained.dims()[0]));
        let (first, second) = (self.trained.get(first)?, self.trained.get(second)?);
        let share = rng.random_range(0. ..1.);
        let mixed = ((first * share)? + (second * (1. - share))?)?;
        let noise = (0..WIDTH).map(|_| rng.random_range(-NOISE..NOISE));
        Ok((mixed + Tensor::from_iter(noise, &Device::Cpu)?)?)
    }

    /// The description that no training has seen, `[1, WIDTH]`.
    pub fn vector(&self) -> &Tensor {
        &self.tested
    }

    /// Its test questions.
    ///
    /// # Errors
    /// It has none.
    pub fn tests(&self) -> Result<Batch> {
        Batch::new(&self.test.iter().collect::<Vec<_>>())
    }
}
