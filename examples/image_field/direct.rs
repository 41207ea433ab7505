//! The ceiling: SIRENs fitted to images of the test directly, each with weights of its own.

use anyhow::Result;
use candle_core::{Tensor, Var};
use hypernn::nn::{AdamW, Optimizer, VarMap, loss};
use hypernn::{GeneratedParams, HyperTarget};
use hypernn_examples::train::cosine;

use crate::field;
use crate::quality::Quality;
use crate::run::Run;
use crate::siren::Siren;

/// Highest learning rate.
const LEARNING_RATE: f64 = 0.002;

/// Fits a SIREN to each image, `[images, 784]`, all at once: a target takes any number of weight sets.
pub fn fit(run: &Run, images: &Tensor) -> Result<Quality> {
    let start = Siren::new(run.variables(&VarMap::new()))?.pack()?.detach();
    let flat = start.unsqueeze(0)?.repeat((images.dim(0)?, 1))?;
    let flat = Var::from_tensor(&flat)?;
    let mut optimizer = AdamW::new_lr(vec![flat.clone()], LEARNING_RATE)?;
    let places = field::grid(field::SIDE, &run.device)?;
    let steps = run.fitting_steps();
    for step in 0..steps {
        optimizer.set_learning_rate(cosine(LEARNING_RATE, step, steps));
        optimizer.backward_step(&loss::mse(&draw(&flat, &places)?, images)?)?;
    }
    Quality::of(&draw(&flat, &places)?, images)
}

fn draw(flat: &Tensor, places: &Tensor) -> Result<Tensor> {
    field::values(&GeneratedParams::from_flat(&(), flat)?, places)
}
