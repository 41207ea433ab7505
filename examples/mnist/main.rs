//! The network of hyper-nn's MNIST notebook, 77,066 weights, from a hypernetwork of 6,940 parameters.
//!
//! `cargo run --release --example mnist`
//!
//! The plain network is trained beside it, on the same images in the same order. README.md has the
//! figures, and says how the settings were chosen.

mod finish;
mod run;

use anyhow::Result;
use clap::Parser;
use hypernn::nn::{Conv2d, Module, VarMap, loss};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_examples::train::accuracy;
use hypernn_examples::training::{History, Training, Variables};
use run::{Args, Run};

/// The notebook's network.
#[derive(HyperTarget)]
#[hyper(sequential = [conv1, relu, conv2, relu, conv3, relu, out, flatten], input = (1, 28, 28))]
pub struct Net {
    #[hyper(conv2d(1, 64, 3, stride = 2))]
    conv1: Conv2d,
    #[hyper(conv2d(64, 64, 3, stride = 2))]
    conv2: Conv2d,
    #[hyper(conv2d(64, 64, 3, stride = 2))]
    conv3: Conv2d,
    #[hyper(conv2d(64, 10, 2, stride = 2))]
    out: Conv2d,
}

hypernetwork! {
    /// 288 embeddings, each of which one linear layer turns into 268 of the network's parameters: the
    /// generated weights are a matrix of rank 12.
    pub struct HyperNet for Net {
        embedding: table(288, 12),
        generator: linear,
        mode: static,
    }
}

/// Nothing in it knows whether `net` owns its weights or generates them.
fn train(
    training: &Training<'_>,
    variables: Variables<'_>,
    net: &impl Module,
    run: &Run,
) -> Result<History> {
    let mut batches = run.batches()?;
    let loss = |step| {
        let (images, labels) = batches.of_step(step)?;
        Ok(loss::cross_entropy(&net.forward(&images)?, &labels)?)
    };
    training.run(variables, loss, || accuracy(net, &run.images.test))
}

fn main() -> Result<()> {
    let run = Run::new(Args::parse())?;
    println!("{}", run.introduction());

    let vars = VarMap::new();
    let hyper = HyperNet::new(run.variables(&vars))?;
    let training = run.training("hypernetwork", run.args.learning_rate)?;
    let variables = Variables { all: &vars, trained: hyper.trainable() };
    let hyper_history = train(&training, variables, &hyper, &run)?;

    let vars = VarMap::new();
    let plain = Net::new(run.variables(&vars))?;
    let training = run.training("plain network", run.args.plain_learning_rate)?;
    let plain_history = train(&training, Variables::plain(&vars), &plain, &run)?;

    finish::finish(&run, (&hyper, &hyper_history), (&plain, &plain_history))
}
