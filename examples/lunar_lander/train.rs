//! Rounds of flights and learning, and the evaluation.

use anyhow::Result;
use candle_core::D;
use hypernn::nn::{Module, Optimizer};
use hypernn_examples::checkpoint::Checkpoint;
use hypernn_examples::progress;
use hypernn_examples::random::rng_of;
use hypernn_examples::train::mean;
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::ppo::Learner;
use crate::rollout::{Crew, Rollout, observations, rows};
use crate::run::{LANDERS, Run};
use crate::world::{Flight, Lander};

/// What random numbers are for: worlds to learn in, actions and batches, worlds of the evaluation.
const TRAINING: u64 = 0;
const CHOICES: u64 = 1;
const EVALUATION: u64 = 2;

/// What a run remembers besides its networks.
#[derive(Serialize, Deserialize)]
struct State {
    /// The scores of the episodes that ended in each round.
    scores: Vec<Vec<f64>>,
    /// The episodes that are under way.
    flights: Vec<Flight>,
}

/// Trains, or takes an interrupted run up again; the policy, and the scores of each round's episodes.
pub fn train(run: &Run) -> Result<(Agent, Vec<Vec<f64>>)> {
    let (mut learner, checkpoint) = (Learner::new(run)?, run.checkpoint());
    let State { flights, mut scores } = start(run, &checkpoint, &mut learner)?;
    let mut landers = landers(run, flights)?;
    let bar = progress::bar(run.args.mode.name(), run.rounds())?;
    bar.set_position(scores.len() as u64);
    while scores.len() < run.rounds() {
        scores.push(round(run, &mut learner, &mut landers, scores.len())?);
        bar.set_message(format!("mean return {:.0}", recent(&scores)));
        bar.inc(1);
        if scores.len().is_multiple_of(run.save_every()) || scores.len() == run.rounds() {
            save(&checkpoint, &learner, &landers, &scores)?;
            bar.suspend(|| println!("{}", line(run, &scores)));
        }
    }
    bar.finish_and_clear();
    Ok((learner.agent, scores))
}

/// A new run, or what an interrupted one had come to.
fn start(run: &Run, checkpoint: &Checkpoint, learner: &mut Learner) -> Result<State> {
    if !run.args.run.resume {
        return Ok(State { flights: vec![Flight::default(); LANDERS], scores: Vec::new() });
    }
    let state: State = checkpoint.load(&learner.vars, &mut learner.optimizer)?;
    println!("{}: goes on after round {}", run.args.mode.name(), state.scores.len());
    Ok(state)
}

fn line(run: &Run, scores: &[Vec<f64>]) -> String {
    let (mode, round, rounds) = (run.args.mode.name(), scores.len(), run.rounds());
    format!("{mode}: round {round:>3}/{rounds}, mean return {:.1}", recent(scores))
}

fn landers(run: &Run, flights: Vec<Flight>) -> Result<Vec<Lander>> {
    let seed = run.args.run.common.seed;
    let each = flights.into_iter().zip(0..);
    each.map(|(flight, number)| Lander::resume([seed, TRAINING, number], flight)).collect()
}

fn save(
    checkpoint: &Checkpoint,
    learner: &Learner,
    landers: &[Lander],
    scores: &[Vec<f64>],
) -> Result<()> {
    let flights = landers.iter().map(|lander| lander.flight().clone()).collect();
    let state = State { scores: scores.to_vec(), flights };
    checkpoint.save(&learner.vars, &learner.optimizer, &state)
}

/// One round; the scores of the episodes that ended in it.
fn round(
    run: &Run,
    learner: &mut Learner,
    landers: &mut [Lander],
    number: usize,
) -> Result<Vec<f64>> {
    let mut rng = rng_of([run.args.run.common.seed, CHOICES, number as u64, 0]);
    let policy = learner.agent.acting()?;
    let crew = Crew { policy: &*policy, critic: &learner.critic, device: &run.device };
    let rollout = Rollout::fly(landers, run.horizon(), &crew, &mut rng)?;
    drop(policy);
    learner.optimizer.set_learning_rate(run.learning_rate(number));
    learner.learn(&rollout, &run.device, &mut rng)?;
    Ok(rollout.scores)
}

/// The mean score of the last hundred episodes or so.
pub fn recent(scores: &[Vec<f64>]) -> f64 {
    mean(scores.iter().rev().flatten().take(100).copied())
}

/// Scores of flights by the likeliest action, in worlds that training did not see.
pub fn evaluate(run: &Run, agent: &Agent) -> Result<Vec<f64>> {
    let policy = agent.acting()?;
    let landers = (0..run.flights()).map(|number| evaluation(run, number));
    let mut landers = landers.collect::<Result<Vec<_>>>()?;
    let mut scores = Vec::new();
    while !landers.is_empty() {
        let actions = likeliest(run, &*policy, &landers)?;
        let mut flying = Vec::new();
        for (mut lander, action) in landers.into_iter().zip(actions) {
            match lander.act(action as u8)?.end {
                Some(_) => scores.push(lander.score()),
                None => flying.push(lander),
            }
        }
        landers = flying;
    }
    Ok(scores)
}

/// What is seen in the course of the first flight of the evaluation.
pub fn observed(run: &Run, agent: &Agent) -> Result<Vec<Vec<f32>>> {
    let (policy, mut lander) = (agent.acting()?, [evaluation(run, 0)?]);
    let mut seen = Vec::new();
    loop {
        seen.push(lander[0].observation().to_vec());
        let action = likeliest(run, &*policy, &lander)?[0];
        if lander[0].act(action as u8)?.end.is_some() {
            return Ok(seen);
        }
    }
}

fn likeliest(run: &Run, policy: &dyn Module, landers: &[Lander]) -> Result<Vec<u32>> {
    let logits = policy.forward(&rows(&observations(landers), &run.device)?)?;
    Ok(logits.argmax(D::Minus1)?.to_vec1()?)
}

/// A lander at the start of a flight of the evaluation.
fn evaluation(run: &Run, number: usize) -> Result<Lander> {
    Lander::new([run.args.run.common.seed, EVALUATION, number as u64])
}
