//! The options of the run, and what follows from them.

use std::path::PathBuf;

use anyhow::Result;
use hypernn_examples::args::{RunArgs, positive};

use crate::model::Model;
use crate::sentences::Sentences;
use crate::tasks::{Counts, Tasks, fetched_pairs, number_pairs};

/// Trains a hypernetwork that turns the description of a task into a LoRA of a language model.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// Answer this, by the trained checkpoint: a task in words, a colon and an input, as "the opposite of the word,
    /// in capital letters: hot"
    #[arg(long, value_name = "TASK: INPUT")]
    pub ask: Option<String>,

    /// Training steps of the hypernetwork
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,

    /// Training steps of the adapters that it is compared with
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..))]
    pub lora_steps: u32,

    /// Tasks in each training step
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub tasks: u32,

    /// Questions of each of them
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub questions: u32,

    /// Highest learning rate of the hypernetwork
    #[arg(long, default_value_t = 0.0015, value_parser = positive, allow_negative_numbers = true)]
    pub learning_rate: f64,

    /// Highest learning rate of the adapters that it is compared with
    #[arg(long, default_value_t = 0.002, value_parser = positive, allow_negative_numbers = true)]
    pub lora_learning_rate: f64,

    /// Options that every example has, and whether to go on with an interrupted run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What everything is trained and tested with.
pub struct Run {
    /// The options.
    pub args: Args,
    /// The folder for the results.
    pub out: PathBuf,
    /// The tasks.
    pub tasks: Tasks,
    /// What turns descriptions into vectors.
    pub sentences: Sentences,
}

impl Run {
    /// Loads the tasks and the encoder of descriptions, and creates the folder for the results.
    ///
    /// # Errors
    /// What has to be fetched is not there.
    pub fn new(args: Args) -> Result<Self> {
        let out = args.run.common.out_dir("text_to_lora")?;
        let (tasks, sentences) = if args.run.common.quick {
            (Tasks::new(&number_pairs(), Counts::QUICK)?, Sentences::Words)
        } else {
            (Tasks::new(&fetched_pairs()?, Counts::FULL)?, Sentences::minilm()?)
        };
        Ok(Self { args, out, tasks, sentences })
    }

    /// The model: one of random weights in a quick run.
    ///
    /// # Errors
    /// It is not there.
    pub fn model(&self) -> Result<Model> {
        if self.args.run.common.quick { Model::random() } else { Model::smollm2() }
    }

    /// The number of steps; few in a quick run.
    pub fn steps(&self, steps: u32) -> usize {
        let steps = steps as usize;
        if self.args.run.common.quick { steps.min(4) } else { steps }
    }
}
