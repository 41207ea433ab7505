//! The options of the run, and what follows from them.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use candle_core::{DType, Device};
use hypernn::FixedTarget as _;
use hypernn::nn::{VarBuilder, VarMap};
use hypernn_examples::args::{Common, device_name, positive};
use hypernn_examples::data::mnist::Dataset;
use hypernn_examples::ranks::Ranks;
use hypernn_examples::report::commas;

use crate::data::{Client, clients};
use crate::{CLIENTS, HyperNet, LATE, Net};

/// Trains a hypernetwork that generates a classifier for each of many clients, which keep their data.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// What to classify
    #[arg(long, value_enum, default_value = "fashion-mnist")]
    pub dataset: Dataset,

    /// Rounds, in each of which the server asks some clients
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,

    /// Clients that are asked in a round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=CLIENTS as i64))]
    pub asked: u32,

    /// Steps that a client takes in a round
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,

    /// Images in each of a client's steps
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,

    /// Images that a client has to train on
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(2..))]
    pub images: u32,

    /// Classes that a client has
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub classes: u32,

    /// Learning rate of the clients
    #[arg(long, default_value_t = 0.05, value_parser = positive, allow_negative_numbers = true)]
    pub client_rate: f64,

    /// Highest learning rate of the server
    #[arg(long, default_value_t = 0.004, value_parser = positive, allow_negative_numbers = true)]
    pub server_rate: f64,

    /// How often a client that is asked dies, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0., value_parser = share, allow_negative_numbers = true)]
    pub deaths: f64,

    /// How many train the clients; the first of them is the server as well.
    #[command(flatten)]
    pub ranks: Ranks,

    /// Options that every example has.
    #[command(flatten)]
    pub common: Common,
}

fn share(text: &str) -> Result<f64> {
    let value: f64 = text.parse()?;
    ensure!((0. ..=1.).contains(&value), "expected a number from 0 to 1");
    Ok(value)
}

/// What everything is trained with.
pub struct Run {
    /// The options.
    pub args: Args,
    /// Where to compute.
    pub device: Device,
    /// All clients, those that come later last.
    pub clients: Vec<Client>,
    /// The folder for the results.
    pub out: PathBuf,
}

impl Run {
    /// Opens the device, loads the data and creates the folder for the results.
    pub fn new(mut args: Args) -> Result<Self> {
        let (device, out) = (args.common.device.open()?, args.common.out_dir("federated")?);
        let images = args.dataset.load(&device)?.standardized()?;
        if args.common.quick {
            (args.rounds, args.steps) = (args.rounds.min(4), args.steps.min(2));
        }
        let clients = clients(&images, &args)?;
        Ok(Self { args, device, clients, out })
    }

    /// What is about to happen.
    pub fn introduction(&self) -> String {
        format!(
            "{}: {CLIENTS} clients and {LATE} that come later, each with {} classes and {} images to train on, on {}.\n\
             A hypernetwork of {} parameters stays on the server; what travels is a network of {}.",
            self.args.dataset.name(),
            self.args.classes,
            self.clients[0].train.len(),
            device_name(&self.device),
            commas(HyperNet::NUM_PARAMS),
            commas(Net::NUM_PARAMS)
        )
    }

    /// The number of rounds.
    pub fn rounds(&self) -> usize {
        self.args.rounds as usize
    }

    /// Whether the accuracy is measured after this round, counted from one.
    pub fn is_measured(&self, round: usize) -> bool {
        let often = !self.args.common.quick && round.is_multiple_of((self.rounds() / 10).max(1));
        often || round == self.rounds()
    }

    /// New variables, drawn from the seed.
    pub fn variables(&self, vars: &VarMap) -> VarBuilder<'static> {
        hypernn::seeded::var_builder(vars, self.args.common.seed, DType::F32, &self.device)
    }
}
