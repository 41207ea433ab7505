//! Handwritten digits: a hypernetwork with a seventh of the parameters of the network it generates.
//!
//! `cargo run --release --example digits`
//!
//! Both networks see the same images in the same order. Their learning rates were chosen by
//! cross-validation within the training images.

mod finish;
mod run;

use anyhow::Result;
use candle_core::Tensor;
use clap::Parser;
use hypernn::nn::{Conv2d, Linear, Module, VarMap, loss, relu};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_examples::train::accuracy;
use hypernn_examples::training::{History, Training, Variables};
use run::{Args, Run};

/// The target: a candle network, whose attributes say what each layer is made of.
#[derive(HyperTarget)]
pub struct DigitNet {
    #[hyper(conv2d(1, 8, 3))]
    conv: Conv2d,
    #[hyper(linear(8 * 6 * 6, 64))]
    fc1: Linear,
    #[hyper(linear(64, 10))]
    fc2: Linear,
}

impl Module for DigitNet {
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        let features = relu(&self.conv.forward(images)?)?.flatten_from(1)?;
        self.fc2.forward(&relu(&self.fc1.forward(&features)?)?)
    }
}

hypernetwork! {
    /// The hypernetwork: a table of 136 embeddings, and one linear layer that turns each of them
    /// into a chunk of the target's parameters.
    pub struct HyperDigitNet for DigitNet {
        embedding: table(136, 9),
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
    training.run(variables, loss, || accuracy(net, &run.digits.test))
}

fn main() -> Result<()> {
    let run = Run::new(Args::parse())?;
    println!("{}", run.introduction());

    let vars = VarMap::new();
    let hyper = HyperDigitNet::new(run.variables(&vars))?;
    let training = run.training("hypernetwork", run.args.learning_rate)?;
    let variables = Variables { all: &vars, trained: hyper.trainable() };
    let hyper_history = train(&training, variables, &hyper, &run)?;

    let vars = VarMap::new();
    let plain = DigitNet::new(run.variables(&vars))?;
    let training = run.training("plain network", run.args.plain_learning_rate)?;
    let plain_history = train(&training, Variables::plain(&vars), &plain, &run)?;

    finish::finish(&run, (&hyper, &hyper_history), (&plain, &plain_history))
}
