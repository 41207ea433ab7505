//! A policy for the lunar lander from a tenth of its parameters, by proximal policy optimisation.
//!
//! `cargo run --release --example lunar_lander`
//!
//! With `--mode static` the policy's weights are generated once for each round of flights; with
//! `--mode dynamic` each observation generates weights of its own; `--mode plain` is the same policy
//! with weights of its own.

mod agent;
mod finish;
mod ppo;
mod rollout;
mod run;
mod train;
mod world;

use anyhow::Result;
use clap::Parser;
use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};
use run::{Args, Run};

/// The target, as in hyper-nn's notebook: three layers without biases.
#[derive(HyperTarget)]
#[hyper(sequential = [first, tanh, second, tanh, last], input = 8)]
pub struct Policy {
    #[hyper(linear_no_bias(8, 256))]
    first: Linear,
    #[hyper(linear_no_bias(256, 256))]
    second: Linear,
    #[hyper(linear_no_bias(256, 4))]
    last: Linear,
}

hypernetwork! {
    /// The notebook's hypernetwork: 512 embeddings, and a perceptron from each to a chunk.
    pub struct HyperPolicy for Policy {
        embedding: table(512, 4),
        generator: mlp([32], tanh),
        mode: static,
    }
}

hypernetwork! {
    /// Each observation makes embeddings of its own, and so weights of its own.
    pub struct DynamicPolicy for Policy {
        embedding: encoder(8, [10], tanh, 128, 3),
        generator: linear,
        mode: dynamic,
    }
}

fn main() -> Result<()> {
    let run = Run::new(Args::parse())?;
    println!("{}", finish::introduction(&run));
    let (agent, scores) = train::train(&run)?;
    finish::finish(&run, &agent, &scores)
}
