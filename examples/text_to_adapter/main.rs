//! A sentence becomes an adapter: a hypernetwork turns the description of a task into low-rank weights
//! (LoRA) for a frozen classifier, for tasks that it has not been trained on.
//!
//! `cargo run --release --example text_to_adapter`
//!
//! A task is a set of digits in words, such as "odd numbers of at least three". The classifier says for
//! an image whether its digit belongs. A batch of sentences is a batch of adapters, each for its own
//! run of images.

mod adapter;
mod classifier;
mod descriptions;
mod digits;
mod encoder;
mod finish;
mod minilm;
mod phrases;
mod questions;
mod results;
mod run;
mod score;

use anyhow::Result;
use clap::Parser;
use run::{Args, Run};

fn main() -> Result<()> {
    let run = Run::new(Args::parse())?;
    println!("{}", run.introduction());
    let base = classifier::pretrain(&run)?;
    let (vars, hyper) = adapter::new(&run, &base)?;
    println!("{hyper:#?}");
    let history = adapter::train(&run, &hyper, &vars)?;
    finish::finish(&run, &base, &hyper, &history)
}
