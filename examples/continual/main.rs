//! Split-MNIST: five tasks one after the other, two digits each, and none is forgotten.
//!
//! `cargo run --release --example continual`
//!
//! After von Oswald et al., *Continual learning with hypernetworks* (2020). A task's images are seen
//! while it is learned and never again; the output regulariser holds the hypernetwork to the weights
//! that it generated for earlier tasks. The same run without it is made beside. README.md has the
//! figures.

mod finish;
mod run;

use anyhow::Result;
use candle_core::{Device, Tensor};
use clap::Parser;
use hypernn::continual::OutputRegularizer;
use hypernn::nn::{Conv2d, Linear, VarMap, loss};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_examples::data::shifted;
use hypernn_examples::report::percent;
use hypernn_examples::train::accuracy;
use hypernn_examples::training::Variables;
use run::{Args, Run};

/// Tells one of two digits from the other.
#[derive(HyperTarget)]
#[hyper(sequential = [conv1, relu, conv2, relu, flatten, out], input = (1, 28, 28))]
pub struct Net {
    #[hyper(conv2d(1, 16, 5, stride = 2))]
    conv1: Conv2d,
    #[hyper(conv2d(16, 32, 5, stride = 2))]
    conv2: Conv2d,
    #[hyper(linear(512, 2))]
    out: Linear,
}

hypernetwork! {
    /// A table of 120 embeddings for each task, the first to begin with, and one linear layer for all.
    pub struct HyperNet for Net {
        embedding: tasks(1, 120, 16),
        generator: linear,
        mode: dynamic,
    }
}

/// What has been learned at the end.
pub struct Learned {
    /// What is different about it.
    pub name: &'static str,
    /// The hypernetwork, with all tasks.
    pub hyper: HyperNet,
    /// After each task, the test accuracy in each that was learned so far.
    pub accuracy: Vec<Vec<f64>>,
    /// How long it took.
    pub seconds: f64,
}

/// Learns all tasks in turn; `beta` weighs the penalty on what changes for earlier ones.
fn learn(name: &'static str, beta: f64, run: &Run) -> Result<Learned> {
    let vars = VarMap::new();
    let mut hyper = HyperNet::new(run.variables(&vars))?;
    let mut old_tasks = OutputRegularizer::new(beta)?;
    let (mut accuracies, mut seconds) = (Vec::new(), 0.);
    for number in 0..run.tasks.len() {
        if number > 0 {
            hyper.add_tasks(1, run.variables(&vars))?;
        }
        seconds += learn_task(name, number, &vars, &hyper, &old_tasks, run)?;
        // Without weight, nothing is held.
        if beta > 0. {
            old_tasks.remember(&hyper, &task(number, &run.device)?)?;
        }
        accuracies.push(so_far(name, &hyper, number, run)?);
    }
    Ok(Learned { name, hyper, accuracy: accuracies, seconds })
}

/// Learns one task; the seconds that it took.
fn learn_task(
    name: &str,
    number: usize,
    vars: &VarMap,
    hyper: &HyperNet,
    old_tasks: &OutputRegularizer,
    run: &Run,
) -> Result<f64> {
    let (task, images) = (task(number, &run.device)?, &run.tasks[number].images);
    let name = format!("{name}, {}", run.tasks[number].name);
    let mut batches = run.batches(number)?;
    let training = run.training(&name, &batches);
    let loss = |step| {
        let (draw, (images, labels)) = (run.draw(number, step), batches.of_step(step)?);
        let images = shifted(&images, run.args.shift, draw)?;
        let logits = hyper.generate_params(&task)?.forward(&images)?;
        let penalty = run.penalty(old_tasks, hyper, draw)?;
        Ok((loss::cross_entropy(&logits, &labels)? + penalty)?)
    };
    let test = || accuracy(&network(hyper, number, &run.device)?, &images.test);
    let variables = Variables { all: vars, trained: hyper.trainable() };
    Ok(training.run(variables, loss, test)?.seconds)
}

/// The number of a task as a condition.
fn task(number: usize, device: &Device) -> Result<Tensor> {
    Ok(Tensor::new(u32::try_from(number)?, device)?)
}

/// The network that is generated for a task now.
fn network(hyper: &HyperNet, number: usize, device: &Device) -> Result<Net> {
    Ok(hyper.generate_params(&task(number, device)?)?.detach().unpack()?)
}

/// The test accuracy in each task up to this one.
fn so_far(name: &str, hyper: &HyperNet, last: usize, run: &Run) -> Result<Vec<f64>> {
    let of =
        |number| accuracy(&network(hyper, number, &run.device)?, &run.tasks[number].images.test);
    let accuracies = (0..=last).map(of).collect::<Result<Vec<_>>>()?;
    let text: Vec<_> = accuracies.iter().copied().map(percent).collect();
    println!("{name}, in all tasks so far: {}", text.join(", "));
    Ok(accuracies)
}

fn main() -> Result<()> {
    let run = Run::new(Args::parse())?;
    println!("{}", run.introduction());
    let held = learn("with the regulariser", run.args.beta, &run)?;
    let free = learn("without it", 0., &run)?;
    finish::finish(&run, [&held, &free])
}
