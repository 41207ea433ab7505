//! What there is without a hypernetwork: every client by itself, and one network for all.

use anyhow::Result;
use candle_core::Tensor;
use hypernn::generated::TargetPlan;
use hypernn::nn::VarMap;
use hypernn::{GeneratedParams, HyperTarget as _};
use hypernn_examples::train::{accuracy, mean};

use crate::exchange::{Clients, Jobs};
use crate::run::Run;
use crate::server::{Course, asked};
use crate::{CLIENTS, LATE, Net};

/// Rounds that have random numbers of their own.
const ALONE: u64 = 1 << 40;
const AVERAGED: u64 = 1 << 41;

/// An ordinary network's weights at the start, `[P]`.
fn start(run: &Run) -> Result<Tensor> {
    let net = Net::new(run.variables(&VarMap::new()))?;
    Ok(TargetPlan::<Net>::new(&())?.pack(&net)?.detach())
}

/// The accuracy of these weights on a client's test images.
fn tested(run: &Run, client: usize, weights: &Tensor) -> Result<f64> {
    accuracy(&GeneratedParams::<Net>::from_flat(&(), weights)?, &run.clients[client].test)
}

/// Every client trains a network of its own, by as many steps as it takes in all rounds in the mean. The accuracy
/// of each, those that come later included.
pub fn alone(run: &Run, clients: &mut dyn Clients) -> Result<Vec<f64>> {
    let steps = run.rounds() * (run.args.asked * run.args.steps) as usize / CLIENTS;
    let (all, start): (Vec<_>, _) = ((0..CLIENTS + LATE).collect(), start(run)?);
    let sent = start.unsqueeze(0)?.repeat((all.len(), 1))?;
    let jobs = Jobs { round: ALONE, steps: steps.max(1), clients: all, sent };
    let answers = clients.train(&jobs)?;
    let accuracies = answers.iter().map(|answer| match &answer.change {
        Ok(change) => tested(run, answer.client, &(&start + change)?),
        Err(_) => tested(run, answer.client, &start),
    });
    let accuracies = accuracies.collect::<Result<Vec<_>>>()?;
    println!("by themselves: mean accuracy {:.2} %", 100. * mean(accuracies.iter().copied()));
    Ok(accuracies)
}

/// Federated averaging, after McMahan et al. (2017): one network, the mean of what the clients of a round made
/// of it. The accuracy of each client, those that come later included, and the course.
pub fn averaged(run: &Run, clients: &mut dyn Clients) -> Result<(Vec<f64>, Course)> {
    let first: Vec<_> = (0..CLIENTS).collect();
    let (mut weights, mut course) = (start(run)?, Course::default());
    let accuracies = |weights: &Tensor, count| {
        (0..count).map(|client| tested(run, client, weights)).collect::<Result<Vec<_>>>()
    };
    for round in 1..=run.rounds() {
        let asked = asked(run, &first, round);
        let sent = weights.unsqueeze(0)?.repeat((asked.len(), 1))?;
        let steps = run.args.steps as usize;
        let jobs = Jobs { round: AVERAGED + round as u64, steps, clients: asked, sent };
        let answers = clients.train(&jobs)?;
        course.note(round, &answers);
        let changes: Vec<_> = answers.into_iter().filter_map(|one| one.change.ok()).collect();
        if !changes.is_empty() {
            weights = (weights + Tensor::stack(&changes, 0)?.mean(0)?)?;
        }
        if run.is_measured(round) {
            let accuracy = mean(accuracies(&weights, CLIENTS)?);
            println!("FedAvg: round {round:>4}, mean accuracy {:.2} %", 100. * accuracy);
            course.measured.push((round, accuracy));
        }
    }
    Ok((accuracies(&weights, CLIENTS + LATE)?, course))
}
