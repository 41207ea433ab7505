//! How many answers are right.

use anyhow::Result;
use candle_core::{D, Module, Tensor};
use serde::Serialize;

use crate::adapter::TextAdapter;
use crate::classifier::Base;
use crate::digits::Digits;
use crate::questions::{Pictures, Tasks};

/// The answers to one description, or the mean over some.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Score {
    /// The share of images that are answered right.
    pub accuracy: f64,
    /// The mean of that share among images that belong and among images that do not: a half for
    /// answers that have nothing to do with the description.
    pub balanced: f64,
}

/// The score of answers, 1 for yes, about images of these digits.
pub fn score(described: Digits, digits: &[u32], answers: &[u32]) -> Score {
    let (mut right, mut all) = ([0f64; 2], [0f64; 2]);
    for (&digit, &answer) in digits.iter().zip(answers) {
        let belongs = described.has(digit);
        all[usize::from(belongs)] += 1.;
        right[usize::from(belongs)] += f64::from(u8::from((answer == 1) == belongs));
    }
    Score {
        accuracy: (right[0] + right[1]) / (all[0] + all[1]),
        balanced: (right[0] / all[0].max(1.) + right[1] / all[1].max(1.)) / 2.,
    }
}

/// The mean of scores.
pub fn mean(scores: &[Score]) -> Score {
    let mean = |of: fn(&Score) -> f64| scores.iter().map(of).sum::<f64>() / scores.len() as f64;
    Score { accuracy: mean(|score| score.accuracy), balanced: mean(|score| score.balanced) }
}

fn largest(logits: &Tensor) -> Result<Vec<u32>> {
    Ok(logits.argmax(D::Minus1)?.to_vec1()?)
}

fn each(
    tasks: &Tasks,
    pictures: &Pictures,
    mut answers: impl FnMut(usize) -> Result<Vec<u32>>,
) -> Result<Vec<Score>> {
    let score = |(at, task): (usize, &crate::descriptions::Description)| {
        Ok(score(task.digits, &pictures.digits, &answers(at)?))
    };
    tasks.descriptions.iter().enumerate().map(score).collect()
}

/// The answers about all images with the adapter of the sentence of this vector.
pub fn answers(hyper: &TextAdapter, vector: &Tensor, pictures: &Pictures) -> Result<Vec<u32>> {
    let params = hyper.generate_params(vector)?.detach();
    largest(&params.forward(&pictures.images)?)
}

/// By the adapters of the descriptions.
pub fn adapted(hyper: &TextAdapter, tasks: &Tasks, pictures: &Pictures) -> Result<Vec<Score>> {
    each(tasks, pictures, |at| answers(hyper, &tasks.vectors.get(at)?, pictures))
}

/// By the adapters of the training descriptions that are nearest to them.
pub fn nearest(
    hyper: &TextAdapter,
    (tasks, known): (&Tasks, &Tasks),
    pictures: &Pictures,
) -> Result<Vec<Score>> {
    let nearest = largest(&tasks.vectors.matmul(&known.vectors.t()?)?)?;
    each(tasks, pictures, |at| answers(hyper, &known.vectors.get(nearest[at] as usize)?, pictures))
}

/// By the classifier without an adapter.
pub fn unadapted(base: &Base, tasks: &Tasks, pictures: &Pictures) -> Result<Vec<Score>> {
    let answers = largest(&base.net.forward(&pictures.images)?)?;
    each(tasks, pictures, |_| Ok(answers.clone()))
}

/// By the digits that the classifier's features tell, if every description were understood.
pub fn understood(base: &Base, tasks: &Tasks, pictures: &Pictures) -> Result<Vec<Score>> {
    let found = largest(&base.digits(&pictures.images)?)?;
    each(tasks, pictures, |at| {
        let described = tasks.descriptions[at].digits;
        Ok(found.iter().map(|&digit| u32::from(described.has(digit))).collect())
    })
}

/// The share of digits that the classifier's features tell.
pub fn digits_read(base: &Base, pictures: &Pictures) -> Result<f64> {
    let found = largest(&base.digits(&pictures.images)?)?;
    let right = found.iter().zip(&pictures.digits).filter(|(found, digit)| found == digit).count();
    Ok(right as f64 / pictures.len() as f64)
}
