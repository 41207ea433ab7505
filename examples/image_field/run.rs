//! The options of the run, and what follows from them.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::{Device, Tensor};
use hypernn::HyperTarget;
use hypernn::nn::{VarBuilder, VarMap};
use hypernn_examples::args::{RunArgs, device_name, positive};
use hypernn_examples::data::Split;
use hypernn_examples::data::mnist::Dataset;
use hypernn_examples::report::commas;

use crate::ImageField;
use crate::siren::Siren;

/// Trains one hypernetwork that turns an image into the network that draws it.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// Which images
    #[arg(long, value_enum, default_value = "fashion-mnist")]
    pub dataset: Dataset,

    /// Training steps
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,

    /// Images in each training step
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,

    /// Pixels of each of them
    #[arg(long, default_value_t = 98, value_parser = clap::value_parser!(u32).range(1..=784))]
    pub pixels: u32,

    /// Highest learning rate
    #[arg(long, default_value_t = 0.004, value_parser = positive, allow_negative_numbers = true)]
    pub learning_rate: f64,

    /// Options that every example has, and whether to go on with an interrupted run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What the hypernetwork is trained with.
pub struct Run {
    /// The options.
    pub args: Args,
    /// The folder for the results.
    pub out: PathBuf,
    /// Where to compute.
    pub device: Device,
    /// To train on, and to watch the training by: `[images, 784]`.
    pub train: Tensor,
    /// Training images that are not trained on.
    pub validation: Tensor,
    /// Seen by nothing before the end.
    pub test: Tensor,
}

/// Training images that are not trained on.
const VALIDATION: usize = 1000;

impl Run {
    /// Opens the device, loads the data and creates the folder for the results.
    pub fn new(args: Args) -> Result<Self> {
        let (device, out) =
            (args.run.common.device.open()?, args.run.common.out_dir("image_field")?);
        let images = args.dataset.load(&device)?;
        let images = if args.run.common.quick { images.few(600, 60)? } else { images };
        let held = images.validation(VALIDATION.min(images.train.len() / 10))?;
        let flat = |split: &Split| split.images.flatten_from(1);
        let (train, validation) = (flat(&held.train)?, flat(&held.test)?);
        Ok(Self { args, out, device, train, validation, test: flat(&images.test)? })
    }

    /// What is about to happen.
    pub fn introduction(&self) -> String {
        let count = |images: &Tensor| commas(images.dims()[0]);
        format!(
            "{}: {} images to train on, {} to validate with, {} to test on, on {}.",
            self.args.dataset.name(),
            count(&self.train),
            count(&self.validation),
            count(&self.test),
            device_name(&self.device)
        )
    }

    /// The number of steps; few in a quick run.
    pub fn steps(&self) -> usize {
        let steps = self.args.steps as usize;
        if self.args.run.common.quick { steps.min(40) } else { steps }
    }

    /// The number of steps in which SIRENs are fitted directly.
    pub fn fitting_steps(&self) -> usize {
        if self.args.run.common.quick { 5 } else { 500 }
    }

    /// A hypernetwork whose variables are drawn from the seed. It starts as one SIREN, drawn likewise,
    /// for all images, and learns what sets them apart.
    pub fn hypernetwork(&self, vars: &VarMap) -> Result<ImageField> {
        let own = VarMap::new();
        let [variables, start] = [vars, &own].map(|vars| self.variables(vars));
        Siren::new(start.clone())?;
        Ok(ImageField::new_from(variables, start)?)
    }

    /// New variables, drawn from the seed.
    pub fn variables(&self, vars: &VarMap) -> VarBuilder<'static> {
        self.args.run.common.variables(vars, &self.device)
    }
}
