//! A sentence becomes an adapter of a language model: a hypernetwork turns the description of a task into LoRA
//! weights for SmolLM2 (Text-to-LoRA, Charakorn et al. 2025), for tasks that it has not been trained on.
//!
//! `cargo run --release --example text_to_lora`
//!
//! The prompt is the input alone, such as "dog =", and tasks contradict each other: the plural, the French, the last
//! letter. What to answer stands in the description alone, which the model itself never sees.

mod adapters;
mod ask;
mod finish;
mod model;
mod phrases;
mod prepared;
mod run;
mod sentences;
mod sequences;
mod tasks;
mod train;
mod words;

use anyhow::Result;
use clap::Parser;
use run::{Args, Run};

fn main() -> Result<()> {
    let args = Args::parse();
    match args.ask.clone() {
        Some(question) => ask::ask(&args, &question),
        None => finish::run(&Run::new(args)?),
    }
}
