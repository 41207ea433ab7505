//! Personalized federated learning: a server generates each client's network, and learns from what clients made of
//! theirs, without their data.
//!
//! `cargo run --release --example federated`
//!
//! After Shamsian et al., *Personalized federated learning using hypernetworks* (ICML 2021): an embedding for each of 50
//! clients, which have different classes, and a hypernetwork over them, both on the server. Clients that come when
//! all is learned get an embedding alone. Beside it every client trains by itself, and all train one network
//! (FedAvg). README.md has the figures.

mod client;
mod data;
mod exchange;
mod finish;
mod others;
mod run;
mod server;

use anyhow::Result;
use clap::Parser;
use exchange::{InProcess, OverRanks, serve};
use hypernn::nn::{Conv2d, Linear};
use hypernn::parallel::AllReduce;
use hypernn::{HyperTarget, hypernetwork};
use run::{Args, Run};

/// Clients that are there from the start.
pub const CLIENTS: usize = 50;
/// Clients that come later.
pub const LATE: usize = 10;

/// A client's network.
#[derive(HyperTarget)]
#[hyper(
    sequential = [conv1, max_pool2d(2), relu, conv2, max_pool2d(2), relu, flatten, fc1, relu, fc2],
    input = (1, 28, 28)
)]
pub struct Net {
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
    /// An embedding for each client; three hidden layers and all weights at once, as in the paper.
    pub struct HyperNet for Net {
        embedding: tasks(CLIENTS, 1, 13),
        generator: mlp([100, 100, 100], relu),
        mode: dynamic,
    }
}

/// The first rank is the server, and trains its share of the clients; the others train theirs.
fn rank(rank: &dyn AllReduce, args: &Args) -> Result<()> {
    let run = Run::new(args.clone())?;
    if rank.rank() > 0 {
        return serve(rank, &run);
    }
    println!("{}", run.introduction());
    if rank.size() == 1 {
        return compare(&run, &mut InProcess { run: &run });
    }
    let mut clients = OverRanks { rank, run: &run };
    compare(&run, &mut clients)?;
    clients.end()
}

/// The hypernetwork, and what there is without one.
fn compare(run: &Run, clients: &mut dyn exchange::Clients) -> Result<()> {
    let served = server::train(run, clients)?;
    let alone = others::alone(run, clients)?;
    let averaged = others::averaged(run, clients)?;
    finish::finish(run, &served, &alone, &averaged)
}

fn main() -> Result<()> {
    let args = Args::parse();
    args.ranks.run(|own| rank(own, &args))
}
