//! After the training: files, table, pictures, summary.

use anyhow::Result;
use hypernn_examples::args::device_name;
use hypernn_examples::plot;
use hypernn_examples::report::{commas, percent, table, write_json};
use hypernn_examples::training::History;
use serde::Serialize;

use crate::run::Run;
use crate::{HyperLeNet, network, task};

/// What `summary.json` holds.
#[derive(Serialize)]
struct Summary<'a> {
    tasks: Vec<Task>,
    num_params: usize,
    num_target_params: usize,
    ratio: f64,
    epochs: usize,
    batch_size: u32,
    learning_rate: f64,
    /// Training images that were tested on, in place of the test images.
    validation: Option<usize>,
    seed: u64,
    device: String,
    quick: bool,
    seconds: f64,
    history: &'a History,
}

#[derive(Serialize)]
struct Task {
    dataset: &'static str,
    test_accuracy: f64,
}

/// Writes everything to the output folder and prints what matters.
pub fn finish(run: &Run, hyper: &HyperLeNet, history: &History, accuracy: &[f64]) -> Result<()> {
    print_table(run, accuracy);
    draw(run, hyper, history)?;
    let summary = summary(run, history, accuracy);
    write_json(&run.out.join("summary.json"), &summary)?;
    hyper.save(run.out.join("hypernetwork.safetensors"))?;
    for (number, Task { dataset, .. }) in summary.tasks.iter().enumerate() {
        let path = run.out.join(format!("network_{number}_{dataset}.safetensors"));
        hyper.export(&task(number, &run.device)?, path)?;
    }
    println!("Pictures, checkpoints and summary.json are in {}.", run.out.display());
    Ok(())
}

fn print_table(run: &Run, accuracy: &[f64]) {
    let rows = run.args.datasets.iter().zip(accuracy).map(|(dataset, &accuracy)| {
        let params = [HyperLeNet::NUM_PARAMS, HyperLeNet::NUM_TARGET_PARAMS].map(commas);
        let [params, target_params] = params;
        [dataset.name().to_owned(), params, target_params, percent(accuracy)]
    });
    let header = ["task", "parameters, of both", "generated, of each", "test accuracy"];
    println!("{}", table(header, &rows.collect::<Vec<_>>()));
}

/// The learning curve, and the first layer's kernels for each task.
fn draw(run: &Run, hyper: &HyperLeNet, history: &History) -> Result<()> {
    plot::learning_curves(&run.out.join("learning_curves.png"), &[history])?;
    let networks = (0..2).map(|number| network(hyper, number, &run.device));
    let networks = networks.collect::<Result<Vec<_>>>()?;
    let names = run.args.datasets.iter().map(|dataset| dataset.name());
    let rows: Vec<_> =
        names.zip(&networks).map(|(name, network)| (name, network.conv1.weight())).collect();
    plot::kernels(&run.out.join("kernels.png"), &rows)
}

fn summary<'a>(run: &Run, history: &'a History, accuracy: &[f64]) -> Summary<'a> {
    let (num_params, num_target_params) = (HyperLeNet::NUM_PARAMS, HyperLeNet::NUM_TARGET_PARAMS);
    let tasks = run.args.datasets.iter().zip(accuracy);
    let tasks = tasks.map(|(set, &test_accuracy)| Task { dataset: set.name(), test_accuracy });
    Summary {
        tasks: tasks.collect(),
        num_params,
        num_target_params,
        ratio: num_params as f64 / num_target_params as f64,
        epochs: run.epochs(),
        batch_size: run.args.batch_size,
        learning_rate: run.args.learning_rate,
        validation: run.args.validation.validation,
        seed: run.args.run.common.seed,
        device: device_name(&run.device),
        quick: run.args.run.common.quick,
        seconds: history.seconds,
        history,
    }
}
