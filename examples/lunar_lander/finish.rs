//! After the training: table, pictures, summary.

use anyhow::Result;
use hypernn::FixedTarget as _;
use hypernn_examples::args::device_name;
use hypernn_examples::plot::{Chart, Line, WeightTrace, charts};
use hypernn_examples::report::{commas, percent, table, write_json};
use hypernn_examples::train::mean;
use serde::Serialize;

use crate::agent::Agent;
use crate::rollout::rows;
use crate::run::Run;
use crate::train::{evaluate, observed, recent};
use crate::{DynamicPolicy, Policy};

/// From this score on, the task counts as solved.
const SOLVED: f64 = 200.;

/// What `summary.json` holds.
#[derive(Serialize)]
struct Summary<'a> {
    mode: &'a str,
    /// The mean over the flights of the evaluation.
    mean_return: f64,
    deviation: f64,
    lowest: f64,
    /// The share of flights that count as solved.
    solved: f64,
    flights: usize,
    training_return: f64,
    num_params: usize,
    num_target_params: usize,
    ratio: f64,
    steps: usize,
    learning_rate: f64,
    seed: u64,
    device: String,
    quick: bool,
    returns: &'a [f64],
}

/// What is about to happen.
pub fn introduction(run: &Run) -> String {
    let num_params = run.args.mode.num_params();
    let steps = run.rounds() * run.steps_per_round();
    format!(
        "A policy of {} weights, {}: {} parameters, {}. {} steps, on {}.",
        commas(Policy::NUM_PARAMS),
        run.args.mode.name(),
        commas(num_params),
        percent(num_params as f64 / Policy::NUM_PARAMS as f64),
        commas(steps),
        device_name(&run.device)
    )
}

/// Evaluates, writes everything to the output folder and prints what matters.
pub fn finish(run: &Run, agent: &Agent, scores: &[Vec<f64>]) -> Result<()> {
    let returns = evaluate(run, agent)?;
    let summary = summary(run, scores, &returns);
    print_table(&summary);
    draw_curve(run, scores)?;
    if let Agent::Dynamic(hyper) = agent {
        draw_weights(run, agent, hyper)?;
    }
    agent.save(&run.out.join("hypernetwork.safetensors"))?;
    write_json(&run.out.join("summary.json"), &summary)?;
    println!("Pictures, the checkpoint and summary.json are in {}.", run.out.display());
    Ok(())
}

fn summary<'a>(run: &Run, scores: &[Vec<f64>], returns: &'a [f64]) -> Summary<'a> {
    let mean_return = mean(returns.iter().copied());
    let num_params = run.args.mode.num_params();
    Summary {
        mode: run.args.mode.name(),
        mean_return,
        deviation: mean(returns.iter().map(|score| (score - mean_return).powi(2))).sqrt(),
        lowest: returns.iter().copied().fold(f64::INFINITY, f64::min),
        solved: mean(returns.iter().map(|&score| f64::from(u8::from(score >= SOLVED)))),
        flights: returns.len(),
        training_return: recent(scores),
        num_params,
        num_target_params: Policy::NUM_PARAMS,
        ratio: num_params as f64 / Policy::NUM_PARAMS as f64,
        steps: run.rounds() * run.steps_per_round(),
        learning_rate: run.args.learning_rate,
        seed: run.args.run.common.seed,
        device: device_name(&run.device),
        quick: run.args.run.common.quick,
        returns,
    }
}

fn print_table(summary: &Summary<'_>) {
    let header = ["policy", "parameters", "mean return", "deviation", "lowest", "solved"];
    let number = |value: f64| format!("{value:.1}");
    let row = [
        summary.mode.to_owned(),
        commas(summary.num_params),
        number(summary.mean_return),
        number(summary.deviation),
        number(summary.lowest),
        percent(summary.solved),
    ];
    println!("Over {} flights:\n{}", summary.flights, table(header, &[row]));
}

/// The mean score of the episodes that ended in each round.
fn draw_curve(run: &Run, scores: &[Vec<f64>]) -> Result<()> {
    let means: Vec<_> = scores.iter().map(|scores| mean(scores.iter().copied())).collect();
    let thousands = run.steps_per_round() as f64 / 1000.;
    let lines = vec![Line::by_step(run.args.mode.name(), thousands, &means)];
    let (title, x) = ("return while learning", "thousands of steps");
    let chart = Chart { title, x, logarithmic: false, lines };
    charts(&run.out.join("learning_curve.png"), &[chart])
}

/// Columns of the picture, at most.
const COLUMNS: usize = 250;

/// Draws the generated weights in the course of a flight.
fn draw_weights(run: &Run, agent: &Agent, hyper: &DynamicPolicy) -> Result<()> {
    let flight = observed(run, agent)?;
    let mut trace = WeightTrace::default();
    for (step, seen) in flight.iter().enumerate().step_by(flight.len().div_ceil(COLUMNS)) {
        let seen = rows(seen, &run.device)?.squeeze(0)?;
        trace.push(step.to_string(), &hyper.generate_params(&seen)?.flat()?)?;
    }
    let title = "generated weights, less their mean, at each step of a flight";
    trace.draw(&run.out.join("weights.png"), title, Policy::NUM_PARAMS)
}
