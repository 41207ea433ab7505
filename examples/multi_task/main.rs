//! One hypernetwork, smaller than the network it generates, for digits and clothes.
//!
//! `cargo run --release --example multi_task`
//!
//! The condition is the task: each has its own table of embeddings, and the generator is common to
//! both. README.md has the figures, beside hypnettorch's.

mod finish;
mod run;

use anyhow::Result;
use candle_core::{Device, Tensor};
use clap::Parser;
use hypernn::nn::{Conv2d, Linear, VarMap, loss};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_examples::train::accuracy;
use hypernn_examples::training::{History, Variables};
use run::{Args, Run};

/// The LeNet of hypnettorch.
#[derive(HyperTarget)]
#[hyper(
    sequential = [conv1, max_pool2d(2), relu, conv2, max_pool2d(2), relu, flatten, fc1, relu, fc2],
    input = (1, 28, 28)
)]
pub struct LeNet {
    #[hyper(conv2d(1, 10, 5))]
    conv1: Conv2d,
    #[hyper(conv2d(10, 20, 5))]
    conv2: Conv2d,
    #[hyper(linear(320, 50))]
    fc1: Linear,
    #[hyper(linear(50, 10))]
    fc2: Linear,
}

hypernetwork! {
    /// Two tables of 105 embeddings; one linear layer makes 208 of a network's parameters of each.
    pub struct HyperLeNet for LeNet {
        embedding: tasks(2, 105, 32),
        generator: linear,
        mode: dynamic,
    }
}

/// Each batch has the same number of images of either task, one task after the other, as the sets of
/// weights lie.
fn train(vars: &VarMap, hyper: &HyperLeNet, run: &Run) -> Result<History> {
    let tasks = Tensor::new(&[0u32, 1], &run.device)?;
    let mut batches = run.batches()?;
    let loss = |step| {
        let (images, labels) = batches.of_step(step)?;
        let logits = hyper.generate_params(&tasks)?.forward(&images)?;
        Ok(loss::cross_entropy(&logits, &labels)?)
    };
    let test = || Ok(accuracies(hyper, run)?.iter().sum::<f64>() / 2.);
    let variables = Variables { all: vars, trained: hyper.trainable() };
    run.training("hypernetwork")?.run(variables, loss, test)
}

/// The number of a task as a condition.
fn task(number: usize, device: &Device) -> Result<Tensor> {
    Ok(Tensor::new(u32::try_from(number)?, device)?)
}

/// The network that is generated for a task now.
fn network(hyper: &HyperLeNet, number: usize, device: &Device) -> Result<LeNet> {
    Ok(hyper.generate_params(&task(number, device)?)?.detach().unpack()?)
}

/// The test accuracy in each task.
fn accuracies(hyper: &HyperLeNet, run: &Run) -> Result<Vec<f64>> {
    let of = |number| accuracy(&network(hyper, number, &run.device)?, &run.tasks[number].test);
    (0..run.tasks.len()).map(of).collect()
}

fn main() -> Result<()> {
    let run = Run::new(Args::parse())?;
    println!("{}", run.introduction());
    let vars = VarMap::new();
    let hyper = HyperLeNet::new(run.variables(&vars))?;
    let history = train(&vars, &hyper, &run)?;
    finish::finish(&run, &hyper, &history, &accuracies(&hyper, &run)?)
}
