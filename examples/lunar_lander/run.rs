//! The options of the run, and what follows from them.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::Device;
use clap::{ValueEnum, value_parser};
use hypernn::FixedTarget as _;
use hypernn_examples::args::{RunArgs, positive};
use hypernn_examples::checkpoint::Checkpoint;

use crate::{DynamicPolicy, HyperPolicy, Policy};

/// Where the policy's weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// From embeddings alone: generated once for each round of flights
    Static,
    /// From the observation: each has weights of its own
    Dynamic,
    /// From nowhere: the policy has weights of its own
    Plain,
}

impl Mode {
    /// The name, as `--mode` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Dynamic => "dynamic",
            Self::Plain => "plain",
        }
    }

    /// The number of the policy's trained parameters.
    pub fn num_params(self) -> usize {
        match self {
            Self::Static => HyperPolicy::NUM_PARAMS,
            Self::Dynamic => DynamicPolicy::NUM_PARAMS,
            Self::Plain => Policy::NUM_PARAMS,
        }
    }
}

/// Trains a policy for the lunar lander whose weights a hypernetwork generates.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// Where the policy's weights come from
    #[arg(long, value_enum, default_value_t = Mode::Static)]
    pub mode: Mode,

    /// Steps of all landers together
    #[arg(long, default_value_t = 500_000, value_parser = value_parser!(u32).range(1..))]
    pub steps: u32,

    /// Learning rate at the start; it falls to zero
    #[arg(long, default_value_t = 1e-3, value_parser = positive, allow_negative_numbers = true)]
    pub learning_rate: f64,

    /// Flights of the evaluation
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
    pub flights: u32,

    /// Options that every example has, and whether to go on with an interrupted run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Landers that fly side by side.
pub const LANDERS: usize = 16;

/// A run.
pub struct Run {
    /// The options.
    pub args: Args,
    /// Where to compute.
    pub device: Device,
    /// The folder for the results.
    pub out: PathBuf,
}

impl Run {
    /// Opens the device.
    pub fn new(args: Args) -> Result<Self> {
        let device = args.run.common.device.open()?;
        let out = args.run.common.out_dir(&format!("lunar_lander/{}", args.mode.name()))?;
        Ok(Self { args, device, out })
    }

    /// Steps that each lander flies in a round.
    pub fn horizon(&self) -> usize {
        if self.args.run.common.quick { 32 } else { 256 }
    }

    /// Rounds of flights and learning.
    pub fn rounds(&self) -> usize {
        let rounds = (self.args.steps as usize).div_ceil(self.steps_per_round());
        if self.args.run.common.quick { rounds.min(3) } else { rounds }
    }

    /// Steps of all landers in a round.
    pub fn steps_per_round(&self) -> usize {
        LANDERS * self.horizon()
    }

    /// Rounds between checkpoints.
    pub fn save_every(&self) -> usize {
        if self.args.run.common.quick { 1 } else { 10 }
    }

    /// Flights of the evaluation.
    pub fn flights(&self) -> usize {
        let flights = self.args.flights as usize;
        if self.args.run.common.quick { flights.min(3) } else { flights }
    }

    /// The learning rate of a round.
    pub fn learning_rate(&self, round: usize) -> f64 {
        self.args.learning_rate * (1. - round as f64 / self.rounds() as f64)
    }

    /// The file that a run goes on from.
    pub fn checkpoint(&self) -> Checkpoint {
        let (mode, seed) = (self.args.mode.name(), self.args.run.common.seed);
        let (rounds, steps) = (self.rounds(), self.steps_per_round());
        let rate = self.args.learning_rate;
        let settings = format!("seed {seed}, {rounds} rounds of {steps}, learning rate {rate}");
        Checkpoint::new(&self.out, mode, settings)
    }
}
