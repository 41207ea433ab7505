//! The training.

use anyhow::Result;
use candle_core::Tensor;
use hypernn::nn::{VarMap, loss};
use hypernn_examples::checkpoint::Checkpoint;
use hypernn_examples::random::rng_of;
use hypernn_examples::training::{History, Length, Training, Variables};
use rand::Rng;
use rand::seq::index;

use crate::quality::Quality;
use crate::run::Run;
use crate::{ImageField, field};

/// Images that are drawn at once where nothing is learned.
const AT_ONCE: usize = 50;

/// That of candle's optimiser by default, with which the figures of README.md were measured.
const WEIGHT_DECAY: f64 = 0.01;

/// Trains the hypernetwork, or goes on with that.
pub fn train(run: &Run, hyper: &ImageField, vars: &VarMap) -> Result<History> {
    let training = Training {
        name: "hypernetwork",
        length: Length::Steps { steps: run.steps(), rounds: 20, measured: "validation error" },
        learning_rate: run.args.learning_rate,
        weight_decay: WEIGHT_DECAY,
        checkpoint: Checkpoint::new(&run.out, "hypernetwork", format!("{:?}", run.args)),
        resume: run.args.run.resume,
    };
    let loss = |step| {
        let batch = Batch::draw(run, step)?;
        let fields = hyper.generate_params(&batch.images)?;
        Ok(loss::mse(&field::values(&fields, &batch.places)?, &batch.values)?)
    };
    let variables = Variables { all: vars, trained: hyper.trainable() };
    training.run(variables, loss, || Ok(quality(hyper, &run.validation)?.mse))
}

/// Some images, some places, and the grey values of the images there.
struct Batch {
    images: Tensor,
    places: Tensor,
    values: Tensor,
}

impl Batch {
    /// That of this step: images with replacement, and the same pixels of each.
    fn draw(run: &Run, step: usize) -> Result<Self> {
        let grid = field::grid(field::SIDE, &run.device)?;
        let mut rng = rng_of([run.args.run.common.seed, step as u64, 0, 0]);
        let count = u32::try_from(run.train.dim(0)?)?;
        let rows = (0..run.args.batch_size).map(|_| rng.random_range(0..count)).collect::<Vec<_>>();
        let pixels = index::sample(&mut rng, grid.dim(0)?, run.args.pixels as usize);
        let pixels = pixels.into_iter().map(u32::try_from).collect::<Result<Vec<_>, _>>()?;
        let pixels = Tensor::new(pixels, &run.device)?;
        let images = run.train.index_select(&Tensor::new(rows, &run.device)?, 0)?;
        let values = images.index_select(&pixels, 1)?;
        Ok(Self { images, places: grid.index_select(&pixels, 0)?, values })
    }
}

/// What each image's own SIREN draws at each pixel: `[images, 784]`.
pub fn reconstruct(hyper: &ImageField, images: &Tensor, places: &Tensor) -> Result<Tensor> {
    field::values(&hyper.generate_params(images)?.detach(), places)
}

/// How near the reconstructions are to these images.
pub fn quality(hyper: &ImageField, images: &Tensor) -> Result<Quality> {
    let grid = field::grid(field::SIDE, images.device())?;
    let count = images.dim(0)?;
    let parts = (0..count).step_by(AT_ONCE).map(|at| {
        let images = images.narrow(0, at, AT_ONCE.min(count - at))?;
        Quality::of(&reconstruct(hyper, &images, &grid)?, &images)
    });
    Ok(Quality::mean(&parts.collect::<Result<Vec<_>>>()?))
}
