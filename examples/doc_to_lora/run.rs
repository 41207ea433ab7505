//! The options of the run, and what follows from them.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::Device;
use hypernn_examples::args::{RunArgs, positive};
use hypernn_examples::random::rng_of;
use rand::Rng;

use crate::language::Document;

/// The longest document in the training of the hypernetwork, in tokens.
pub const LONGEST: usize = 96;

/// Trains a hypernetwork that turns a document into a LoRA of a language model.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// Training steps of the language model
    #[arg(long, default_value_t = 6000, value_parser = clap::value_parser!(u32).range(1..))]
    pub model_steps: u32,

    /// Training steps of the hypernetwork
    #[arg(long, default_value_t = 6000, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,

    /// Documents in each training step
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub documents: u32,

    /// Questions about each of them
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub questions: u32,

    /// Highest learning rate of the language model
    #[arg(long, default_value_t = 0.002, value_parser = positive, allow_negative_numbers = true)]
    pub model_learning_rate: f64,

    /// Highest learning rate of the hypernetwork
    #[arg(long, default_value_t = 0.001, value_parser = positive, allow_negative_numbers = true)]
    pub learning_rate: f64,

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
    /// Where to compute.
    pub device: Device,
}

/// Documents that are drawn apart from each other.
#[derive(Clone, Copy)]
pub enum Purpose {
    /// To teach the language model.
    Model,
    /// To train the hypernetwork.
    Train,
    /// To measure with in the course of a training.
    Measure,
    /// To test with in the end.
    Test,
}

impl Purpose {
    /// Trained is with denser needles than documents have later: more of them have to be told apart, which is what is
    /// hard to learn.
    fn tokens_per_needle(self) -> usize {
        match self {
            Self::Model => 12,
            Self::Train => 8,
            Self::Measure | Self::Test => 24,
        }
    }
}

impl Run {
    /// Creates the folder for the results.
    ///
    /// # Errors
    /// It can't be created, or there is no such device.
    pub fn new(args: Args) -> Result<Self> {
        let common = &args.run.common;
        let (out, device) = (common.out_dir("doc_to_lora")?, common.device.open()?);
        Ok(Self { args, out, device })
    }

    /// A number of steps or of documents; few in a quick run.
    pub fn few(&self, count: usize) -> usize {
        if self.args.run.common.quick { count.min(4) } else { count }
    }

    /// So many documents of `shortest` to `longest` tokens, for a step of this purpose.
    pub fn documents(
        &self,
        purpose: Purpose,
        step: usize,
        count: usize,
        (shortest, longest): (usize, usize),
    ) -> Vec<Document> {
        let seed = self.args.run.common.seed;
        let mut rng = rng_of([seed, purpose as u64, step as u64, longest as u64]);
        let draw = |_| {
            let tokens = rng.random_range(shortest..=longest);
            Document::draw(tokens, purpose.tokens_per_needle(), &mut rng)
        };
        (0..count).map(draw).collect()
    }
}
