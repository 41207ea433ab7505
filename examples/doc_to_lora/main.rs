//! A document becomes an adapter of a language model: a hypernetwork reads the hidden states of a document and writes
//! a LoRA, with which the model answers questions about the document without having it in its prompt (Doc-to-LoRA,
//! Charakorn et al. 2026).
//!
//! `cargo run --release --example doc_to_lora`
//!
//! The language is made up: "the key of WORD is NUMBER" among sentences of filler. A small decoder is taught to answer
//! "the key of WORD is" with the document in its prompt; then a hypernetwork learns by distillation to write that into
//! weights.

mod batch;
mod finish;
mod language;
mod model;
mod run;
mod test;
mod train;

use anyhow::Result;
use clap::Parser;
use run::{Args, Run};

fn main() -> Result<()> {
    finish::run(&Run::new(Args::parse())?)
}
