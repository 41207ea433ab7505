//! The options of the run, and what follows from them.

use anyhow::Result;
use candle_core::{DType, Device};
use clap::ValueEnum;
use hypernn::nn::{VarBuilder, VarMap};
use hypernn_examples::args::{Common, positive};

/// Where the policy's weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// From embeddings alone, generated once for each round of flights
    Static,
    /// From the observation: each has weights of its own
    Dynamic,
    /// From nowhere: the policy has weights of its own
    Plain,
}

/// Trains a policy for the lunar lander whose weights a hypernetwork generates.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// Where the policy's weights come from
    #[arg(long, value_enum, default_value_t = Mode::Static)]
    pub mode: Mode,

    /// Steps of training, of all landers together
    #[arg(long, default_value_t = 1_000_000)]
    pub steps: usize,

    /// Learning rate at the start; it falls to zero
    #[arg(long, default_value_t = 1e-3, value_parser = positive, allow_negative_numbers = true)]
    pub learning_rate: f64,

    #[arg(long, default_value_t = 16)]
    pub landers: usize,
    #[arg(long, default_value_t = 512)]
    pub horizon: usize,
    #[arg(long, default_value_t = 256)]
    pub batch: usize,
    #[arg(long, default_value_t = 6)]
    pub epochs: usize,
    #[arg(long, default_value_t = 0.999)]
    pub gamma: f32,
    #[arg(long, default_value_t = 0.98)]
    pub lambda: f32,
    #[arg(long, default_value_t = 0.01)]
    pub entropy: f64,
    #[arg(long, default_value_t = 0.2)]
    pub clip: f64,
    #[arg(long, default_value_t = 0.5)]
    pub norm: f64,
    #[arg(long, default_value_t = 1e-3)]
    pub critic_rate: f64,
    #[arg(long, default_value_t = 100)]
    pub flights: usize,

    /// Options that every example has.
    #[command(flatten)]
    pub common: Common,
}

/// A run.
pub struct Run {
    /// The options.
    pub args: Args,
    /// Where to compute.
    pub device: Device,
}

impl Run {
    /// Opens the device.
    pub fn new(args: Args) -> Result<Self> {
        let device = args.common.device.open()?;
        Ok(Self { args, device })
    }

    /// New variables, drawn from the seed.
    pub fn variables(&self, vars: &VarMap) -> VarBuilder<'static> {
        hypernn::seeded::var_builder(vars, self.args.common.seed, DType::F32, &self.device)
    }
}
