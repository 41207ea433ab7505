//! The options of the run, and what follows from them.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::Result;
use candle_core::Device;
use clap::{ValueEnum, value_parser};
use hypernn_examples::args::{RunArgs, positive};
use hypernn_examples::checkpoint::Checkpoint;
use hypernn_examples::train::cosine;

use crate::corpus::Corpus;

/// What becomes of a learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Schedule {
    /// A short rise, then a fall to zero along half a cosine
    Cosine,
    /// It stays as it is, as in the notebook
    Constant,
}

/// Trains a network whose weights are generated anew for each letter to spell names, and beside it the
/// same network with weights of its own.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// Folder of files LANGUAGE.txt, a name a line [default: what examples/data/fetch.sh fetched]
    #[arg(long, value_name = "FOLDER")]
    pub names: Option<PathBuf>,

    /// Names to train on, one at a time
    #[arg(long, default_value_t = 3000, value_parser = value_parser!(u32).range(1..))]
    pub count: u32,

    /// What becomes of the learning rates in the course of a run
    #[arg(long, value_enum, default_value_t = Schedule::Cosine)]
    pub schedule: Schedule,

    /// Highest learning rate of the hypernetwork
    #[arg(long, default_value_t = 0.01, value_parser = positive, allow_negative_numbers = true)]
    pub learning_rate: f64,

    /// Highest learning rate of the plain network
    #[arg(long, default_value_t = 0.003, value_parser = positive, allow_negative_numbers = true)]
    pub plain_learning_rate: f64,

    /// Runs of each network, of this many seeds from `--seed` on
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..))]
    pub seeds: u32,

    /// Options that every example has, and whether to go on with an interrupted run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What all networks are trained with.
pub struct Run {
    /// The options.
    pub args: Args,
    /// The names.
    pub corpus: Corpus,
    /// Where to compute.
    pub device: Device,
    /// The folder for the results.
    pub out: PathBuf,
}

impl Run {
    /// Reads the names.
    pub fn new(args: Args) -> Result<Self> {
        let mut corpus = Corpus::load(args.names.as_deref())?;
        if args.run.common.quick {
            corpus.shorten(2);
        }
        let (device, out) = (args.run.common.device.open()?, args.run.common.out_dir("names")?);
        Ok(Self { args, corpus, device, out })
    }

    /// The number of names to train on.
    pub fn count(&self) -> usize {
        let count = self.args.count as usize;
        if self.args.run.common.quick { count.min(30) } else { count }
    }

    /// The seeds of the runs.
    pub fn seeds(&self) -> Range<u64> {
        let (first, count) = (self.args.run.common.seed, u64::from(self.args.seeds));
        first..first + if self.args.run.common.quick { 1 } else { count }
    }

    /// Names between checkpoints.
    pub fn save_every(&self) -> usize {
        if self.args.run.common.quick { 10 } else { 500 }
    }

    /// The learning rate of a step.
    pub fn learning_rate(&self, peak: f64, step: usize) -> f64 {
        match self.args.schedule {
            Schedule::Cosine => cosine(peak, step, self.count()),
            Schedule::Constant => peak,
        }
    }

    /// The file that a run goes on from.
    pub fn checkpoint(&self, network: &str, seed: u64, learning_rate: f64) -> Checkpoint {
        let settings = format!(
            "seed {seed}, learning rate {learning_rate} ({:?}), {} names of {}",
            self.args.schedule,
            self.count(),
            self.corpus.num_train()
        );
        Checkpoint::new(&self.out, &format!("{network} {seed}"), settings)
    }
}
