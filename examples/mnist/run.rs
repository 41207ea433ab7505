//! The options of the run, and what follows from them.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::Device;
use hypernn::nn::{VarBuilder, VarMap};
use hypernn_examples::args::{RunArgs, Validation, device_name, positive};
use hypernn_examples::beside::introduction;
use hypernn_examples::checkpoint::Checkpoint;
use hypernn_examples::data::mnist::Dataset;
use hypernn_examples::data::{Batches, Images};
use hypernn_examples::ranks::Ranks;
use hypernn_examples::training::{Length, Training};

use crate::finish::SIZES;

/// Trains a hypernetwork that generates a convolutional image classifier, and the same classifier
/// with weights of its own.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// What to classify
    #[arg(long, value_enum, default_value = "mnist")]
    pub dataset: Dataset,

    /// Passes over the training images
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: u32,

    /// Highest learning rate of the hypernetwork
    #[arg(long, default_value_t = 0.03, value_parser = positive, allow_negative_numbers = true)]
    pub learning_rate: f64,

    /// Highest learning rate of the plain network
    #[arg(long, default_value_t = 0.003, value_parser = positive, allow_negative_numbers = true)]
    pub plain_learning_rate: f64,

    /// Images in each training step
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,

    /// How many train it.
    #[command(flatten)]
    pub ranks: Ranks,

    /// How settings are chosen.
    #[command(flatten)]
    pub validation: Validation,

    /// Options that every example has, and whether to go on with an interrupted run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What both networks are trained with.
pub struct Run {
    /// The options.
    pub args: Args,
    /// Where to compute.
    pub device: Device,
    /// The data, on the device.
    pub images: Images,
    /// The folder for the results.
    pub out: PathBuf,
}

impl Run {
    /// Opens the device, loads the data and creates the folder for the results.
    pub fn new(args: Args) -> Result<Self> {
        let (device, out) = (args.run.common.device.open()?, args.run.common.out_dir("mnist")?);
        let images = args.validation.load(args.dataset, &device)?;
        let images = if args.run.common.quick { images.few(128, 64)? } else { images };
        Ok(Self { args, device, images, out })
    }

    /// What is about to happen.
    pub fn introduction(&self) -> String {
        let name = self.args.dataset.name();
        let images = [self.images.train.len(), self.images.test.len()];
        format!("{name}: {}", introduction(images, &device_name(&self.device), SIZES))
    }

    /// The number of epochs; three in a quick run.
    pub fn epochs(&self) -> usize {
        let epochs = self.args.epochs as usize;
        if self.args.run.common.quick { epochs.min(3) } else { epochs }
    }

    /// The training batches; both networks see the same, in the same order.
    pub fn batches(&self) -> Result<Batches<'_>> {
        Batches::new(&self.images.train, self.args.batch_size as usize, self.args.run.common.seed)
    }

    /// How the network of this name is trained.
    pub fn training<'a>(&self, name: &'a str, learning_rate: f64) -> Result<Training<'a>> {
        Ok(Training {
            name,
            length: Length::Epochs { epochs: self.epochs(), steps: self.batches()?.per_epoch() },
            learning_rate,
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
