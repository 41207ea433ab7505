//! One question, answered by the adapter that is generated from its task.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use hypernn::nn::VarMap;
use hypernn_models::{GenerateOptions, generate};

use crate::model::{Model, hypernetwork};
use crate::run::Args;
use crate::sentences::Sentences;
use crate::sequences::{Prompt, Writing};

/// The checkpoint that comes with the example.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("text_to_lora.safetensors")
}

/// Prints the answer.
///
/// # Errors
/// The question has no colon, or what has to be fetched is not there.
pub fn ask(args: &Args, question: &str) -> Result<()> {
    let (task, input) =
        question.rsplit_once(':').context("expected a task, a colon and an input")?;
    let trained = args.run.common.out.as_ref().map(|out| out.join("text_to_lora.safetensors"));
    let checkpoint = trained.unwrap_or_else(shipped);
    ensure!(
        checkpoint.is_file(),
        "there is no {}: train first, or name a folder by --out",
        checkpoint.display()
    );
    let model = Model::smollm2()?;
    let (config, end) = (model.config.clone(), model.end()?);
    let vb = args.run.common.variables(&VarMap::new(), &Device::Cpu);
    let (hyper, words) = hypernetwork(model, vb)?;
    hyper.load(&checkpoint)?;
    let vector = Sentences::minilm()?.encode(&[task.trim().to_owned()])?;
    let decoder = hyper.generate_params(&vector)?.detach().unpack()?;
    let prompt =
        Writing { words: &words, end, prompt: Prompt::Input }.prompt(task, input.trim())?;
    let options = GenerateOptions::greedy(&config, 24);
    let generated = generate(&decoder, &[prompt], &options)?;
    println!("{}", words.decode(&generated[0])?.trim());
    Ok(())
}
