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
use hypernn::nn::{AdamW, Conv2d, Linear, Module, Optimizer, VarMap, loss};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_examples::progress::Progress;
use hypernn_examples::train::{History, accuracy};
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
        let features = self.conv.forward(images)?.relu()?.flatten_from(1)?;
        self.fc2.forward(&self.fc1.forward(&features)?.relu()?)
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

/// The training loop is candle's: nothing in it knows whether `net` owns its weights or generates
/// them.
fn train(name: &str, vars: &VarMap, net: &impl Module, peak: f64, run: &Run) -> Result<History> {
    let mut optimizer = AdamW::new_lr(vars.all_vars(), peak)?;
    let mut progress = Progress::new(name, run.epochs(), run.batches()?.per_epoch())?;
    let checkpoint = run.checkpoint(name);
    progress.resume(run.args.resume, &checkpoint, (vars, &mut optimizer))?;
    let mut batches = run.batches()?.after(progress.epochs_done());
    while !progress.is_complete() {
        for batch in batches.epoch() {
            let (images, labels) = batch?;
            optimizer.set_learning_rate(progress.cosine(peak));
            let loss = loss::cross_entropy(&net.forward(&images)?, &labels)?;
            optimizer.backward_step(&loss)?;
            progress.step(&loss, optimizer.learning_rate())?;
        }
        progress.epoch(accuracy(net, &run.digits.test)?);
        checkpoint.save(vars, &optimizer, progress.history())?;
    }
    Ok(progress.finish())
}

fn main() -> Result<()> {
    let run = Run::new(Args::parse())?;
    println!("{}", run.introduction());

    let vars = VarMap::new();
    let hyper = HyperDigitNet::new(run.variables(&vars))?;
    let hyper_history = train("hypernetwork", &vars, &hyper, run.args.learning_rate, &run)?;

    let vars = VarMap::new();
    let plain = DigitNet::new(run.variables(&vars))?;
    let plain_history = train("plain network", &vars, &plain, run.args.plain_learning_rate, &run)?;

    finish::finish(&run, (&hyper, &hyper_history), (&plain, &plain_history))
}
