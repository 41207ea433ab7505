//! The server: it has the hypernetwork and an embedding for each client, and no data.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use candle_core::{Tensor, TensorId, Var};
use hypernn::nn::{AdamW, Optimizer, VarMap};
use hypernn_examples::random::rng_of;
use hypernn_examples::train::{accuracy, cosine, mean};
use rand::seq::index;
use serde::Serialize;

use crate::exchange::{Answer, Clients, Jobs};
use crate::run::Run;
use crate::{CLIENTS, HyperNet, LATE};

/// A client that was left out of a round.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// The round, from 1 on.
    pub round: usize,
    /// Its number.
    pub client: usize,
}

/// What became of the rounds.
#[derive(Default)]
pub struct Course {
    /// Rounds after which the accuracy was measured, and its mean over the clients.
    pub measured: Vec<(usize, f64)>,
    /// Clients that died.
    pub left_out: Vec<LeftOut>,
    /// Bytes that went to clients and came back, of all rounds.
    pub bytes: u64,
}

/// What the server has learned.
pub struct Served {
    /// The hypernetwork, with an embedding for each client.
    pub hyper: HyperNet,
    /// The rounds with the clients that were there from the start.
    pub course: Course,
    /// The accuracy of each of them.
    pub accuracies: Vec<f64>,
    /// That of each client that came later, once its embedding was trained.
    pub late: Vec<f64>,
}

/// Learns from the first clients, then an embedding for each that comes later.
pub fn train(run: &Run, clients: &mut dyn Clients) -> Result<Served> {
    let vars = VarMap::new();
    let mut hyper = HyperNet::new(run.variables(&vars))?;
    let first: Vec<_> = (0..CLIENTS).collect();
    let course = rounds(run, clients, &hyper, hyper.trainable(), &first, "hypernetwork")?;
    let accuracies = accuracies(run, &hyper, &first)?;

    let before: HashSet<TensorId> = hyper.trainable().iter().map(|var| var.id()).collect();
    hyper.add_tasks(LATE, run.variables(&vars))?;
    let new = hyper.trainable().into_iter().filter(|var| !before.contains(&var.id())).collect();
    let late: Vec<_> = (CLIENTS..CLIENTS + LATE).collect();
    rounds(run, clients, &hyper, new, &late, "new embeddings")?;
    ensure!(self::accuracies(run, &hyper, &first)? == accuracies, "the first clients have changed");
    let late = self::accuracies(run, &hyper, &late)?;
    Ok(Served { hyper, course, accuracies, late })
}

/// Rounds in which some of these clients learn, and the trained variables from them.
fn rounds(
    run: &Run,
    clients: &mut dyn Clients,
    hyper: &HyperNet,
    trained: Vec<Var>,
    among: &[usize],
    name: &str,
) -> Result<Course> {
    let (mut optimizer, mut course) = (AdamW::new_lr(trained, 0.)?, Course::default());
    for round in 1..=run.rounds() {
        let asked = asked(run, among, round);
        optimizer.set_learning_rate(cosine(run.args.server_rate, round - 1, run.rounds()));
        let params = hyper.generate_params(&numbers(run, &asked)?)?;
        // What random numbers depend on: a client that comes later has other rounds.
        let of_round = (round + among[0] * run.rounds()) as u64;
        let sent = params.detach().flat()?;
        let jobs = Jobs { round: of_round, steps: run.args.steps as usize, clients: asked, sent };
        let answers = clients.train(&jobs)?;
        course.note(round, &answers);
        if let Some(delta) = mean_change(&answers, &jobs.sent)? {
            optimizer.backward_step(&params.pull(&delta)?)?;
        }
        if run.is_measured(round) {
            let accuracy = mean(accuracies(run, hyper, among)?);
            println!("{name}: round {round:>4}, mean accuracy {:.2} %", 100. * accuracy);
            course.measured.push((round, accuracy));
        }
    }
    Ok(course)
}

/// The clients of a round, in the order of their numbers.
pub fn asked(run: &Run, among: &[usize], round: usize) -> Vec<usize> {
    let mut rng = rng_of([run.args.common.seed, round as u64, among[0] as u64, 4]);
    let count = (run.args.asked as usize).min(among.len());
    let mut asked: Vec<_> =
        index::sample(&mut rng, among.len(), count).into_iter().map(|index| among[index]).collect();
    asked.sort_unstable();
    asked
}

/// Each client's part of the mean change, `[k, P]`, with zeros for those that are gone; nothing where all are.
fn mean_change(answers: &[Answer], sent: &Tensor) -> Result<Option<Tensor>> {
    let alive = answers.iter().filter(|answer| answer.change.is_ok()).count();
    if alive == 0 {
        return Ok(None);
    }
    let nothing = sent.get(0)?.zeros_like()?;
    let changes: Vec<_> =
        answers.iter().map(|answer| answer.change.as_ref().unwrap_or(&nothing)).collect();
    Ok(Some((Tensor::stack(&changes, 0)? / alive as f64)?))
}

impl Course {
    /// Counts what was sent, and names who is gone.
    pub fn note(&mut self, round: usize, answers: &[Answer]) {
        for answer in answers {
            let bytes = crate::finish::BYTES_SENT;
            match &answer.change {
                Ok(_) => self.bytes += 2 * bytes,
                Err(reason) => {
                    self.bytes += bytes;
                    println!("round {round:>4}: client {} is left out: {reason}", answer.client);
                    self.left_out.push(LeftOut { round, client: answer.client });
                }
            }
        }
    }
}

fn numbers(run: &Run, clients: &[usize]) -> Result<Tensor> {
    let numbers: Vec<_> = clients.iter().map(|&client| client as i64).collect();
    Ok(Tensor::new(numbers, &run.device)?)
}

/// The accuracy of what is generated for each of these clients, on its own test images.
pub fn accuracies(run: &Run, hyper: &HyperNet, clients: &[usize]) -> Result<Vec<f64>> {
    let of = |&client: &usize| {
        let number = numbers(run, &[client])?.get(0)?;
        accuracy(&hyper.generate_params(&number)?.detach(), &run.clients[client].test)
    };
    clients.iter().map(of).collect()
}
