//! The options of the run, and what follows from them.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use candle_core::Device;
use hypernn::nn::{VarBuilder, VarMap};
use hypernn_examples::args::{RunArgs, Validation, device_name, positive};
use hypernn_examples::checkpoint::Checkpoint;
use hypernn_examples::data::mnist::Dataset;
use hypernn_examples::data::{Batches, Images};
use hypernn_examples::report::{commas, percent};
use hypernn_examples::training::{Length, Training};

use crate::HyperLeNet;

/// Trains one hypernetwork that generates a classifier for each of two sets of images.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// The two sets of images
    #[arg(long, value_enum, value_delimiter = ',', default_value = "mnist,fashion-mnist")]
    pub datasets: Vec<Dataset>,

    /// Passes over the training images
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: u32,

    /// Highest learning rate
    #[arg(long, default_value_t = 0.01, value_parser = positive, allow_negative_numbers = true)]
    pub learning_rate: f64,

    /// Images of each set in a training step
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,

    /// How settings are chosen.
    #[command(flatten)]
    pub validation: Validation,

    /// Options that every example has, and whether to go on with an interrupted run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What the training needs.
pub struct Run {
    /// The options.
    pub args: Args,
    /// Where to compute.
    pub device: Device,
    /// The images of each task.
    pub tasks: Vec<Images>,
    /// The folder for the results.
    pub out: PathBuf,
}

impl Run {
    /// Opens the device, loads the data and creates the folder for the results.
    pub fn new(args: Args) -> Result<Self> {
        let found = args.datasets.len();
        ensure!(
            found == 2,
            "--datasets has {found} names, expected two, as in mnist,fashion-mnist"
        );
        let (device, out) =
            (args.run.common.device.open()?, args.run.common.out_dir("multi_task")?);
        let tasks = args.datasets.iter().map(|&dataset| load(dataset, &args, &device));
        Ok(Self { tasks: tasks.collect::<Result<_>>()?, args, device, out })
    }

    /// What is about to happen.
    pub fn introduction(&self) -> String {
        let (params, target_params) = (HyperLeNet::NUM_PARAMS, HyperLeNet::NUM_TARGET_PARAMS);
        let names: Vec<_> = self.args.datasets.iter().map(|dataset| dataset.name()).collect();
        format!(
            "{}: {} images of each to train on, on {}.\n\
             A hypernetwork of {} parameters generates two networks of {}: {} of one.",
            names.join(" and "),
            commas(self.tasks[0].train.len()),
            device_name(&self.device),
            commas(params),
            commas(target_params),
            percent(params as f64 / target_params as f64)
        )
    }

    /// The number of epochs; three in a quick run.
    pub fn epochs(&self) -> usize {
        let epochs = self.args.epochs as usize;
        if self.args.run.common.quick { epochs.min(3) } else { epochs }
    }

    /// The training batches: of both sets at once.
    pub fn batches(&self) -> Result<Batches<'_>> {
        let splits: Vec<_> = self.tasks.iter().map(|images| &images.train).collect();
        Batches::of_several(&splits, self.args.batch_size as usize, self.args.run.common.seed)
    }

    /// How what has this name is trained.
    pub fn training<'a>(&self, name: &'a str) -> Result<Training<'a>> {
        Ok(Training {
            name,
            length: Length::Epochs { epochs: self.epochs(), steps: self.batches()?.per_epoch() },
            learning_rate: self.args.learning_rate,
            weight_decay: 0.,
            checkpoint: Checkpoint::new(&self.out, name, format!("{:?}", self.args)),
            resume: self.args.run.resume,
        })
    }

    /// New variables, drawn from the seed.
    pub fn variables(&self, vars: &VarMap) -> VarBuilder<'static> {
        self.args.run.common.variables(vars, &self.device)
    }
}

/// Standardized by its own training images; some of them in a quick run.
fn load(dataset: Dataset, args: &Args, device: &Device) -> Result<Images> {
    let images = args.validation.load(dataset, device)?;
    if args.run.common.quick { images.few(128, 64) } else { Ok(images) }
}
