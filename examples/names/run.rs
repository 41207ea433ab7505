//! The options of the run, and what follows from them.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::Result;
use clap::value_parser;
use hypernn_examples::args::{Common, positive};
use hypernn_examples::checkpoint::Checkpoint;

use crate::corpus::Corpus;

/// Trains a network whose weights are generated anew for each letter to spell names, and beside it the
/// same network with weights of its own.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// Folder of files LANGUAGE.txt, a name a line
    #[arg(long, value_name = "FOLDER", default_value = "examples/data/fetched/names")]
    pub names: PathBuf,

    /// Names to train on, one at a time
    #[arg(long, default_value_t = 3000, value_parser = value_parser!(u32).range(1..))]
    pub count: u32,

    /// Learning rate of the hypernetwork
    #[arg(long, default_value_t = 0.005, value_parser = positive, allow_negative_numbers = true)]
    pub learning_rate: f64,

    /// Learning rate of the plain network
    #[arg(long, default_value_t = 0.003, value_parser = positive, allow_negative_numbers = true)]
    pub plain_learning_rate: f64,

    /// Runs of each network, of this many seeds from `--seed` on
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..))]
    pub seeds: u32,

    /// Stop each run after this many names, as an interruption would
    #[arg(long, value_name = "COUNT")]
    pub stop_after: Option<usize>,

    /// Options that every example has.
    #[command(flatten)]
    pub common: Common,
}

/// What all networks are trained with.
pub struct Run {
    /// The options.
    pub args: Args,
    /// The names.
    pub corpus: Corpus,
    /// The folder for the results.
    pub out: PathBuf,
}

impl Run {
    /// Reads the names.
    pub fn new(args: Args) -> Result<Self> {
        let mut corpus = Corpus::load(&args.names)?;
        if args.common.quick {
            corpus.shorten(2);
        }
        let out = args.common.out_dir("names")?;
        Ok(Self { args, corpus, out })
    }

    /// The number of names to train on.
    pub fn count(&self) -> usize {
        let count = self.args.count as usize;
        if self.args.common.quick { count.min(30) } else { count }
    }

    /// Where a run that is to be interrupted stops.
    pub fn stop(&self) -> usize {
        self.args.stop_after.map_or(self.count(), |stop| stop.min(self.count()))
    }

    /// The seeds of the runs.
    pub fn seeds(&self) -> Range<u64> {
        let (first, count) = (self.args.common.seed, u64::from(self.args.seeds));
        first..first + if self.args.common.quick { 1 } else { count }
    }

    /// The file that a run goes on from.
    pub fn checkpoint(&self, network: &str, seed: u64, learning_rate: f64) -> Checkpoint {
        let names = self.corpus.num_train();
        let settings = format!("seed {seed}, learning rate {learning_rate}, {names} names");
        Checkpoint::new(&self.out, &format!("{network}-{seed}"), settings)
    }
}
