//! After the training: files, table, pictures, summary.

use anyhow::Result;
use hypernn::FixedTarget as _;
use hypernn_examples::args::device_name;
use hypernn_examples::plot::{HeatMap, heat_map};
use hypernn_examples::report::{commas, percent, table, write_json};
use serde::Serialize;

use crate::run::Run;
use crate::{Learned, Net, task};

/// What `summary.json` holds.
#[derive(Serialize)]
struct Summary<'a> {
    dataset: &'static str,
    /// The mean test accuracy in all tasks after the last.
    mean_accuracy: f64,
    mean_accuracy_without: f64,
    /// The mean over all tasks of the accuracy right after each was learned.
    accuracy_when_learned: f64,
    accuracy_when_learned_without: f64,
    /// After each task, the accuracy in each so far.
    accuracy: &'a [Vec<f64>],
    accuracy_without: &'a [Vec<f64>],
    tasks: usize,
    num_params: usize,
    num_target_params: usize,
    epochs: usize,
    batch_size: u32,
    learning_rate: f64,
    beta: f64,
    held: Option<u32>,
    shift: usize,
    /// Training images that were tested on, in place of the test images.
    validation: Option<usize>,
    seed: u64,
    device: String,
    quick: bool,
    seconds: f64,
    seconds_without: f64,
}

/// Writes everything to the output folder and prints what matters.
pub fn finish(run: &Run, learned: [&Learned; 2]) -> Result<()> {
    print_table(run, learned);
    draw(run, learned)?;
    write_json(&run.out.join("summary.json"), &summary(run, learned))?;
    let [held, _] = learned;
    held.hyper.save(run.out.join("hypernetwork.safetensors"))?;
    for number in 0..run.tasks.len() {
        let path = run.out.join(format!("network_{number}.safetensors"));
        held.hyper.export(&task(number, &run.device)?, path)?;
    }
    println!("The picture, checkpoints and summary.json are in {}.", run.out.display());
    Ok(())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// In all tasks, after the last.
fn at_the_end(learned: &Learned) -> f64 {
    learned.accuracy.last().map_or(0., |last| mean(last))
}

/// In each task, right after it.
fn when_learned(learned: &Learned) -> f64 {
    mean(&learned.accuracy.iter().filter_map(|row| row.last().copied()).collect::<Vec<_>>())
}

fn print_table(run: &Run, learned: [&Learned; 2]) {
    let last = |learned: &Learned, task: usize| {
        learned.accuracy.last().map_or_else(String::new, |last| percent(last[task]))
    };
    let mut rows: Vec<[String; 3]> = (0..run.tasks.len())
        .map(|task| [run.tasks[task].name.clone(), last(learned[0], task), last(learned[1], task)])
        .collect();
    let both = |name: &str, of: fn(&Learned) -> f64| {
        [name.to_owned(), percent(of(learned[0])), percent(of(learned[1]))]
    };
    rows.push(both("mean", at_the_end));
    rows.push(both("mean when learned", when_learned));
    let header = ["accuracy after the last task", learned[0].name, learned[1].name];
    println!("{}", table(header, &rows));
    println!(
        "All {} networks of {} parameters come from {}.",
        run.tasks.len(),
        commas(Net::NUM_PARAMS),
        commas(learned[0].hyper.num_params())
    );
}

/// The accuracy by task and time, with the regulariser above, without it below.
fn draw(run: &Run, learned: [&Learned; 2]) -> Result<()> {
    let columns: Vec<String> = run.tasks.iter().map(|task| task.name.clone()).collect();
    let after = |how| columns.iter().map(move |task| format!("{how}, {task}"));
    let rows: Vec<String> = after("with").chain([String::new()]).chain(after("without")).collect();
    let row = |row: &Vec<f64>| {
        let later = std::iter::repeat_n(f64::NAN, columns.len() - row.len());
        row.iter().map(|share| 100. * share).chain(later).collect()
    };
    let [held, free] = learned.map(|learned| learned.accuracy.iter());
    let values: Vec<Vec<f64>> = held.chain([&Vec::new()]).chain(free).map(row).collect();
    let title = "test accuracy (%) by task, after learning";
    let map = HeatMap { title, rows: &rows, columns: &columns, values: &values, numbers: true };
    heat_map(&run.out.join("accuracy.png"), &map)
}

fn summary<'a>(run: &Run, [held, free]: [&'a Learned; 2]) -> Summary<'a> {
    Summary {
        dataset: run.args.dataset.name(),
        mean_accuracy: at_the_end(held),
        mean_accuracy_without: at_the_end(free),
        accuracy_when_learned: when_learned(held),
        accuracy_when_learned_without: when_learned(free),
        accuracy: &held.accuracy,
        accuracy_without: &free.accuracy,
        tasks: run.tasks.len(),
        num_params: held.hyper.num_params(),
        num_target_params: Net::NUM_PARAMS,
        epochs: run.epochs(),
        batch_size: run.args.batch_size,
        learning_rate: run.args.learning_rate,
        beta: run.args.beta,
        held: run.args.held,
        shift: run.args.shift,
        validation: run.args.validation.validation,
        seed: run.args.run.common.seed,
        device: device_name(&run.device),
        quick: run.args.run.common.quick,
        seconds: held.seconds,
        seconds_without: free.seconds,
    }
}
