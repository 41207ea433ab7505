//! The network of hyper-nn's MNIST notebook, 77,066 weights, from a hypernetwork of 6,940 parameters.
//!
//! `cargo run --release --example mnist`
//!
//! `--ranks 2` trains by two ranks: threads, or with `--features mpi` processes.
//!
//! The plain network is trained beside it, on the same images in the same order. README.md has the
//! figures, and says how the settings were chosen.

mod finish;
mod run;

use anyhow::Result;
use candle_core::Tensor;
use clap::Parser;
use hypernn::nn::{Conv2d, Module, VarMap, loss};
use hypernn::parallel::{AllReduce, share};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_examples::report::commas;
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
    net: &dyn Module,
    run: &Run,
) -> Result<History> {
    let mut batches = run.batches()?;
    let loss = |step| {
        let (images, labels) = batches.of_step(step)?;
        Ok(loss::cross_entropy(&net.forward(&images)?, &labels)?)
    };
    training.run(variables, loss, || accuracy(&|xs: &Tensor| net.forward(xs), &run.images.test))
}

/// The same by several ranks, each with a share of every batch. Also gives the bytes of each step.
fn train_by_ranks(
    rank: &dyn AllReduce,
    training: &Training<'_>,
    variables: Variables<'_>,
    net: &dyn Module,
    run: &Run,
) -> Result<(History, u64)> {
    let mut batches = run.batches()?;
    let loss = |step| {
        let (images, labels) = batches.of_step(step)?;
        let own = share(labels.elem_count(), rank.rank(), rank.size());
        if own.is_empty() {
            return Ok(None);
        }
        let of_own = |tensor: &Tensor| tensor.narrow(0, own.start, own.len());
        let logits = net.forward(&of_own(&images)?)?;
        Ok(Some((own.len(), loss::cross_entropy(&logits, &of_own(&labels)?)?)))
    };
    training.run_by_ranks(rank, variables, loss, || {
        accuracy(&|xs: &Tensor| net.forward(xs), &run.images.test)
    })
}

/// Both networks, one after the other, on this rank.
fn rank(rank: &dyn AllReduce, args: &Args) -> Result<()> {
    let (first, alone) = (rank.rank() == 0, args.ranks.ranks.is_none() && rank.size() == 1);
    let run = Run::new(args.clone())?;
    if first {
        println!("{}", run.introduction());
    }
    let vars = VarMap::new();
    let hyper = HyperNet::new(run.variables(&vars))?;
    let variables = Variables { all: &vars, trained: hyper.trainable() };
    let train_network = |name, rate, variables: Variables<'_>, net: &dyn Module| {
        let training = run.training(name, rate)?;
        if alone {
            return Ok((train(&training, variables, net, &run)?, 0));
        }
        train_by_ranks(rank, &training, variables, net, &run)
    };
    let (hyper_history, bytes) =
        train_network("hypernetwork", args.learning_rate, variables, &hyper)?;

    let vars = VarMap::new();
    let plain = Net::new(run.variables(&vars))?;
    let (plain_history, plain_bytes) =
        train_network("plain network", args.plain_learning_rate, Variables::plain(&vars), &plain)?;
    if !alone && first {
        println!(
            "Each of {} ranks put {} bytes into the sums of a step for the hypernetwork, {} for the plain network.",
            rank.size(),
            commas(usize::try_from(bytes)?),
            commas(usize::try_from(plain_bytes)?)
        );
    }
    if first {
        finish::finish(&run, (&hyper, &hyper_history), (&plain, &plain_history))?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let args = Args::parse();
    args.ranks.run(|own| rank(own, &args))
}
