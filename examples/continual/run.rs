//! The options of the run, and what follows from them.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::{Device, Tensor};
use hypernn::FixedTarget as _;
use hypernn::continual::OutputRegularizer;
use hypernn::nn::{VarBuilder, VarMap};
use hypernn_examples::args::{RunArgs, Validation, device_name, positive};
use hypernn_examples::checkpoint::Checkpoint;
use hypernn_examples::data::mnist::Dataset;
use hypernn_examples::data::{Batches, Images};
use hypernn_examples::report::commas;
use hypernn_examples::training::{Length, Training};

use crate::{HyperNet, Net};

/// Learns five tasks one after the other, with and without the output regulariser.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// What to split into tasks
    #[arg(long, value_enum, default_value = "mnist")]
    pub dataset: Dataset,

    /// Passes over the images of each task
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: u32,

    /// Highest learning rate
    #[arg(long, default_value_t = 0.01, value_parser = positive, allow_negative_numbers = true)]
    pub learning_rate: f64,

    /// Weight of the output regulariser
    #[arg(long, default_value_t = 0.1, value_parser = positive, allow_negative_numbers = true)]
    pub beta: f64,

    /// Each step is held to so many of the earlier tasks [default: all]
    #[arg(long, value_name = "TASKS", value_parser = clap::value_parser!(u32).range(1..))]
    pub held: Option<u32>,

    /// Images in each training step
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,

    /// Training images are moved by up to so many pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 1)]
    pub shift: usize,

    /// How settings are chosen.
    #[command(flatten)]
    pub validation: Validation,

    /// Options that every example has, and whether to go on with an interrupted run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Two classes to tell from each other.
pub struct Task {
    /// Its name.
    pub name: String,
    /// The images of these classes.
    pub images: Images,
}

/// What all training has in common.
pub struct Run {
    /// The options.
    pub args: Args,
    /// Where to compute.
    pub device: Device,
    /// The tasks, in order.
    pub tasks: Vec<Task>,
    /// The folder for the results.
    pub out: PathBuf,
}

impl Run {
    /// Opens the device, loads the data and creates the folder for the results.
    pub fn new(args: Args) -> Result<Self> {
        let (device, out) = (args.run.common.device.open()?, args.run.common.out_dir("continual")?);
        let images = args.validation.load(args.dataset, &device)?;
        let tasks = (0..5).map(|task| split(&images, 2 * task, args.run.common.quick));
        Ok(Self { tasks: tasks.collect::<Result<_>>()?, args, device, out })
    }

    /// What is about to happen.
    pub fn introduction(&self) -> String {
        format!(
            "{} in {} tasks, on {}.\n\
             A hypernetwork of {} parameters, which grows with each task, generates networks of {}.",
            self.args.dataset.name(),
            self.tasks.len(),
            device_name(&self.device),
            commas(HyperNet::NUM_PARAMS),
            commas(Net::NUM_PARAMS)
        )
    }

    /// The number of epochs for each task; two in a quick run.
    pub fn epochs(&self) -> usize {
        let epochs = self.args.epochs as usize;
        if self.args.run.common.quick { epochs.min(2) } else { epochs }
    }

    /// A task's training batches.
    pub fn batches(&self, task: usize) -> Result<Batches<'_>> {
        let seed = self.args.run.common.seed;
        Batches::new(&self.tasks[task].images.train, self.args.batch_size as usize, seed)
    }

    /// How what has this name is trained, on these batches.
    pub fn training<'a>(&self, name: &'a str, batches: &Batches<'_>) -> Training<'a> {
        Training {
            name,
            length: Length::Epochs { epochs: self.epochs(), steps: batches.per_epoch() },
            learning_rate: self.args.learning_rate,
            weight_decay: 0.,
            checkpoint: Checkpoint::new(&self.out, name, format!("{:?}", self.args)),
            resume: self.args.run.resume,
        }
    }

    /// What a step adds to the loss for what changes in earlier tasks.
    pub fn penalty(
        &self,
        old_tasks: &OutputRegularizer,
        hyper: &HyperNet,
        draw: u64,
    ) -> Result<Tensor> {
        Ok(match self.args.held {
            None => old_tasks.penalty(hyper)?,
            Some(count) => old_tasks.penalty_of_some(hyper, count as usize, draw)?,
        })
    }

    /// A random number for each step of each task.
    pub fn draw(&self, task: usize, step: usize) -> u64 {
        let place = ((task as u64) << 32) + step as u64;
        self.args.run.common.seed.wrapping_mul(1 << 40) ^ place
    }

    /// New variables, drawn from the seed.
    pub fn variables(&self, vars: &VarMap) -> VarBuilder<'static> {
        self.args.run.common.variables(vars, &self.device)
    }
}

/// The task of this class and the next; some of its images in a quick run.
fn split(images: &Images, class: u32, quick: bool) -> Result<Task> {
    let classes = class..class + 2;
    let (train, test) =
        (images.train.of_classes(classes.clone())?, images.test.of_classes(classes)?);
    let images = Images { train, test };
    let images = if quick { images.few(128, 30)? } else { images };
    Ok(Task { name: format!("{class} or {}", class + 1), images })
}
