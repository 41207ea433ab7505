//! The options of the run, and what follows from them.

use std::path::PathBuf;

use anyhow::Result;
use hypernn_examples::args::{Common, positive};

use crate::corpus::Corpus;

/// Trains a network whose weights are generated anew for each letter to spell names.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// Folder of LANGUAGE.txt, a name a line
    #[arg(long, value_name = "FOLDER", default_value = "examples/data/fetched/names")]
    pub names: PathBuf,

    /// Names to train on, one at a time
    #[arg(long, default_value_t = 3000)]
    pub count: usize,

    /// Learning rate of the hypernetwork
    #[arg(long, default_value_t = 0.01, value_parser = positive, allow_negative_numbers = true)]
    pub learning_rate: f64,

    /// Learning rate of the plain network
    #[arg(long, default_value_t = 0.003, value_parser = positive, allow_negative_numbers = true)]
    pub plain_learning_rate: f64,

    /// Runs of each network, with one seed after the other
    #[arg(long, default_value_t = 3)]
    pub seeds: u64,

    #[arg(long)]
    pub plain: bool,

    /// Options that every example has.
    #[command(flatten)]
    pub common: Common,
}

/// A run.
pub struct Run {
    pub args: Args,
    pub corpus: Corpus,
}

impl Run {
    pub fn new(args: Args) -> Result<Self> {
        let corpus = Corpus::load(&args.names)?;
        Ok(Self { args, corpus })
    }

    pub fn seeds(&self) -> std::ops::Range<u64> {
        self.args.common.seed..self.args.common.seed + self.args.seeds
    }
}
