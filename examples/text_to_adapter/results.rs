//! What is answered right, by groups of descriptions and sentence by sentence.

use anyhow::Result;
use serde::Serialize;

use crate::adapter::TextAdapter;
use crate::classifier::Base;
use crate::descriptions::Description;
use crate::digits::Digits;
use crate::phrases::Kind;
use crate::questions::{Pictures, Tasks};
use crate::run::Run;
use crate::score::{self, Score};

/// A group of descriptions, by each way to answer.
#[derive(Serialize)]
pub struct Group {
    /// What they have in common.
    pub name: &'static str,
    /// How many they are.
    pub descriptions: usize,
    /// Without an adapter.
    pub unadapted: Score,
    /// With the adapter of the nearest training description.
    pub nearest: Score,
    /// With the adapter of the description.
    pub adapted: Score,
    /// If the description were understood.
    pub understood: Score,
}

/// A sentence written by hand.
#[derive(Serialize)]
pub struct Sentence {
    /// In words.
    pub text: String,
    /// The digits that it means.
    pub described: String,
    /// The digits of which more than half of the images are answered yes.
    pub answered: String,
    /// The share of yes, by digit.
    pub yes: Vec<f64>,
    /// Its balanced accuracy.
    pub balanced: f64,
}

/// The score of descriptions, by each way to answer.
pub fn group(
    name: &'static str,
    run: &Run,
    (base, hyper): (&Base, &TextAdapter),
    tasks: &Tasks,
) -> Result<Group> {
    let pictures = &run.pictures;
    Ok(Group {
        name,
        descriptions: tasks.len(),
        unadapted: score::mean(&score::unadapted(base, tasks, pictures)?),
        nearest: score::mean(&score::nearest(hyper, (tasks, &run.train.tasks), pictures)?),
        adapted: score::mean(&score::adapted(hyper, tasks, pictures)?),
        understood: score::mean(&score::understood(base, tasks, pictures)?),
    })
}

/// By how the set is described: the name of the kind, the number of descriptions, and the score with
/// their adapters.
pub fn kinds(
    hyper: &TextAdapter,
    tasks: &Tasks,
    pictures: &Pictures,
) -> Result<Vec<(&'static str, usize, Score)>> {
    let scores = score::adapted(hyper, tasks, pictures)?;
    let of = |kind: Kind| {
        let all = tasks.descriptions.iter().zip(&scores);
        let some: Vec<_> =
            all.filter(|(task, _)| task.kind == Some(kind)).map(|(_, score)| *score).collect();
        (!some.is_empty()).then(|| (kind.name(), some.len(), score::mean(&some)))
    };
    Ok(Kind::ALL.into_iter().filter_map(of).collect())
}

/// Each sentence, with the answers of its adapter.
pub fn sentences(hyper: &TextAdapter, tasks: &Tasks, pictures: &Pictures) -> Result<Vec<Sentence>> {
    let sentence = |(at, task): (usize, &Description)| {
        let answers = score::answers(hyper, &tasks.vectors.get(at)?, pictures)?;
        let yes: Vec<_> = (0..10).map(|digit| share_of_yes(digit, &answers, pictures)).collect();
        Ok(Sentence {
            text: task.text.clone(),
            described: task.digits.to_string(),
            answered: Digits::which(|digit| yes[digit as usize] > 0.5).to_string(),
            yes,
            balanced: score::score(task.digits, &pictures.digits, &answers).balanced,
        })
    };
    tasks.descriptions.iter().enumerate().map(sentence).collect()
}

fn share_of_yes(digit: u32, answers: &[u32], pictures: &Pictures) -> f64 {
    let of = pictures.digits.iter().zip(answers).filter(|(found, _)| **found == digit);
    let of: Vec<_> = of.map(|(_, &answer)| f64::from(answer)).collect();
    of.iter().sum::<f64>() / of.len().max(1) as f64
}
