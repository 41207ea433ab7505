//! The options of the run, and what follows from them.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::Device;
use hypernn::nn::{VarBuilder, VarMap};
use hypernn_examples::args::{RunArgs, device_name, not_negative, positive};
use hypernn_examples::data::Split;
use hypernn_examples::data::mnist::Dataset;
use hypernn_examples::report::commas;

use crate::descriptions::Descriptions;
use crate::encoder::Encoder;
use crate::questions::{Pictures, Questions, Tasks};

/// Trains a hypernetwork that turns descriptions of tasks into adapters of a classifier.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// Which images of digits: mnist, or digits
    #[arg(long, value_enum, default_value = "mnist")]
    pub dataset: Dataset,

    /// What turns sentences into vectors
    #[arg(long, value_enum, default_value = "minilm")]
    pub encoder: Encoder,

    /// Training steps
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,

    /// Descriptions in each training step
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,

    /// Images for each of them
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..))]
    pub images: u32,

    /// Highest learning rate
    #[arg(long, default_value_t = 0.002, value_parser = positive, allow_negative_numbers = true)]
    pub learning_rate: f64,

    /// Deviation of what is added to a sentence's vector in training
    #[arg(long, default_value_t = 0.015, value_parser = not_negative, allow_negative_numbers = true)]
    pub noise: f64,

    /// Options that every example has, and whether to go on with an interrupted run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What everything is trained and tested with.
pub struct Run {
    /// The options.
    pub args: Args,
    /// The folder for the results.
    pub out: PathBuf,
    /// Where to compute.
    pub device: Device,
    /// What is asked in training.
    pub train: Questions,
    /// Other tasks and other images, to choose settings with.
    pub validation: Questions,
    /// Test images.
    pub pictures: Pictures,
    /// Tasks to test with.
    pub tests: Tests,
}

/// Tasks to test with, by what is known of them from training.
pub struct Tests {
    /// The sets.
    pub new_wording: Tasks,
    /// The words.
    pub new_set: Tasks,
    /// Neither.
    pub new_both: Tasks,
    /// Neither, and no template either.
    pub by_hand: Tasks,
}

impl Tests {
    /// All of them, as tables name them.
    pub fn groups(&self) -> [(&'static str, &Tasks); 4] {
        [
            ("sets seen, wording new", &self.new_wording),
            ("sets new, wording seen", &self.new_set),
            ("sets new, wording new", &self.new_both),
            ("written by hand", &self.by_hand),
        ]
    }
}

/// That of candle's optimiser by default, with which the figures of README.md were measured: of the classifier
/// and of the hypernetwork.
pub const WEIGHT_DECAY: f64 = 0.01;

/// Training images that are not trained on.
const VALIDATION: usize = 5000;

/// Images that each description is validated and tested with.
const ASKED: usize = 1000;

impl Run {
    /// Opens the device, loads the images, encodes all descriptions and creates the folder for the
    /// results.
    pub fn new(args: Args) -> Result<Self> {
        let (device, out) =
            (args.run.common.device.open()?, args.run.common.out_dir("text_to_adapter")?);
        let images = args.dataset.load(&device)?;
        let held = images.validation(VALIDATION.min(images.train.len() / 10))?;
        let some = |split: &Split| Pictures::new(&split.narrow(0, ASKED.min(split.len()))?);
        let encoder = args.encoder.load(&device)?;
        let tasks = |descriptions| Tasks::new(descriptions, encoder.as_ref());
        let all = Descriptions::new();
        let all = if args.run.common.quick { all.few() } else { all };
        Ok(Self {
            train: Questions { pictures: Pictures::new(&held.train)?, tasks: tasks(all.train)? },
            validation: Questions { pictures: some(&held.test)?, tasks: tasks(all.validation)? },
            pictures: some(&images.test)?,
            tests: Tests {
                new_wording: tasks(all.new_wording)?,
                new_set: tasks(all.new_set)?,
                new_both: tasks(all.new_both)?,
                by_hand: tasks(all.by_hand)?,
            },
            args,
            out,
            device,
        })
    }

    /// What is about to happen.
    pub fn introduction(&self) -> String {
        let tested = self.tests.groups().map(|(_, tasks)| tasks.len()).iter().sum();
        format!(
            "{} descriptions to train on, {} to validate with, {} to test on, by {}; {} images to \
             train on, {} to test on, on {}.",
            commas(self.train.tasks.len()),
            commas(self.validation.tasks.len()),
            commas(tested),
            self.args.encoder.name(),
            commas(self.train.pictures.len()),
            commas(self.pictures.len()),
            device_name(&self.device)
        )
    }

    /// The number of steps; few in a quick run.
    pub fn steps(&self) -> usize {
        let steps = self.args.steps as usize;
        if self.args.run.common.quick { steps.min(40) } else { steps }
    }

    /// New variables, drawn from the seed.
    pub fn variables(&self, vars: &VarMap) -> VarBuilder<'static> {
        self.args.run.common.variables(vars, &self.device)
    }
}
