//! After the training: table, names, pictures, summary.

use std::collections::BTreeMap;

use anyhow::Result;
use hypernn::FixedTarget as _;
use hypernn_examples::args::device_name;
use hypernn_examples::plot::{Chart, Line, charts};
use hypernn_examples::report::{commas, percent, table, write_json};
use hypernn_examples::train::mean;
use serde::Serialize;

use crate::run::{Run, Schedule};
use crate::sample::{draw_weights, samples};
use crate::train::{Outcome, WINDOW};
use crate::{HyperNextLetter, NextLetter};

/// What `summary.json` holds.
#[derive(Serialize)]
struct Summary<'a> {
    nats_per_letter: f64,
    plain_nats_per_letter: f64,
    held_out: f64,
    plain_held_out: f64,
    num_params: usize,
    num_target_params: usize,
    ratio: f64,
    names: usize,
    constant_learning_rate: bool,
    learning_rate: f64,
    plain_learning_rate: f64,
    device: String,
    quick: bool,
    runs: &'a [Outcome],
    plain_runs: &'a [Outcome],
    samples: BTreeMap<String, Vec<String>>,
}

/// All outcomes of one network.
pub type Outcomes = Vec<Outcome>;

/// Writes everything to the output folder and prints what matters.
pub fn finish(
    run: &Run,
    hyper: &HyperNextLetter,
    outcomes: &Outcomes,
    plain: &Outcomes,
) -> Result<()> {
    print_table(run, outcomes, plain);
    let samples = samples(hyper, run)?;
    for (language, names) in &samples {
        println!("{language:>12}: {}", names.join(", "));
    }
    draw_curves(run, outcomes, plain)?;
    draw_weights(hyper, run)?;
    hyper.save(run.out.join("hypernetwork.safetensors"))?;
    let summary = summary(run, outcomes, plain, samples.into_iter().collect());
    write_json(&run.out.join("summary.json"), &summary)?;
    println!("Pictures, checkpoints and summary.json are in {}.", run.out.display());
    Ok(())
}

fn last(outcomes: &Outcomes) -> f64 {
    mean(outcomes.iter().map(|outcome| outcome.nats_per_letter))
}

fn held_out(outcomes: &Outcomes) -> f64 {
    mean(outcomes.iter().map(|outcome| outcome.held_out))
}

fn print_table(run: &Run, outcomes: &Outcomes, plain: &Outcomes) {
    let row = |name: &str, size: usize, outcomes: &Outcomes| {
        let each = outcomes.iter().map(|outcome| format!("{:.3}", outcome.nats_per_letter));
        let each = each.collect::<Vec<_>>().join(" ");
        let (last, held_out) = (last(outcomes), held_out(outcomes));
        [name.to_owned(), commas(size), format!("{last:.3}"), each, format!("{held_out:.3}")]
    };
    let last = format!("last {} names", WINDOW.min(run.count()));
    let header = ["network", "parameters", &last, "by seed", "held out"];
    let rows = [
        row("hypernetwork", HyperNextLetter::NUM_PARAMS, outcomes),
        row("plain network", NextLetter::NUM_PARAMS, plain),
    ];
    println!("Nats per letter:\n{}", table(header, &rows));
}

/// The loss in the course of training: means over runs of 100 names, and over the seeds.
fn draw_curves(run: &Run, outcomes: &Outcomes, plain: &Outcomes) -> Result<()> {
    const STEP: usize = 100;
    let line = |name, outcomes: &Outcomes| {
        let count = outcomes.iter().map(|outcome| outcome.losses.len()).min().unwrap_or(0);
        let part = |start: usize| {
            let end = (start + STEP).min(count);
            mean(outcomes.iter().flat_map(|outcome| outcome.losses[start..end].iter().copied()))
        };
        let means: Vec<_> = (0..count).step_by(STEP).map(part).collect();
        Line::by_step(name, STEP as f64, &means)
    };
    let lines = vec![line("hypernetwork", outcomes), line("plain network", plain)];
    let chart = Chart { title: "nats per letter", x: "names", logarithmic: false, lines };
    charts(&run.out.join("learning_curves.png"), &[chart])
}

fn summary<'a>(
    run: &Run,
    runs: &'a Outcomes,
    plain_runs: &'a Outcomes,
    samples: BTreeMap<String, Vec<String>>,
) -> Summary<'a> {
    let (num_params, num_target_params) =
        (HyperNextLetter::NUM_PARAMS, HyperNextLetter::NUM_TARGET_PARAMS);
    Summary {
        nats_per_letter: last(runs),
        plain_nats_per_letter: last(plain_runs),
        held_out: held_out(runs),
        plain_held_out: held_out(plain_runs),
        num_params,
        num_target_params,
        ratio: num_params as f64 / num_target_params as f64,
        names: run.count(),
        constant_learning_rate: run.args.schedule == Schedule::Constant,
        learning_rate: run.args.learning_rate,
        plain_learning_rate: run.args.plain_learning_rate,
        device: device_name(&run.device),
        quick: run.args.run.common.quick,
        runs,
        plain_runs,
        samples,
    }
}

/// What is about to happen.
pub fn introduction(run: &Run) -> String {
    let (size, target) = (HyperNextLetter::NUM_PARAMS, HyperNextLetter::NUM_TARGET_PARAMS);
    let held_out: usize = run.corpus.0.iter().map(|language| language.held_out.len()).sum();
    format!(
        "{} names of {} languages to draw {} from, {} held out, on {}.\n\
         A hypernetwork of {} parameters generates a network of {} for each letter: {}.",
        commas(run.corpus.num_train()),
        run.corpus.0.len(),
        commas(run.count()),
        commas(held_out),
        device_name(&run.device),
        commas(size),
        commas(target),
        percent(size as f64 / target as f64)
    )
}
