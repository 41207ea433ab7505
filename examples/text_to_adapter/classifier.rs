//! The target: a small network that says whether an image belongs to what was described.

use anyhow::Result;
use candle_core::Tensor;
use hypernn::HyperTarget;
use hypernn::nn::{Linear, Module, VarMap, linear, loss, relu};
use hypernn_examples::checkpoint::Checkpoint;
use hypernn_examples::random::rng_of;
use hypernn_examples::training::{Length, Training, Variables};

use crate::run::{Run, WEIGHT_DECAY};
use crate::score;

/// From images `[rows, 784]` to the logits of no and yes, `[rows, 2]`.
#[derive(HyperTarget)]
pub struct Classifier {
    #[hyper(linear(784, 128))]
    first: Linear,
    #[hyper(linear(128, 64))]
    second: Linear,
    #[hyper(linear(64, 2))]
    answer: Linear,
}

impl Classifier {
    fn features(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        relu(&self.second.forward(&relu(&self.first.forward(images)?)?)?)
    }
}

impl Module for Classifier {
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        self.answer.forward(&self.features(images)?)
    }
}

/// The network that is adapted, as it is before.
pub struct Base {
    /// Its variables, and those of `reader`.
    pub vars: VarMap,
    /// The network itself.
    pub net: Classifier,
    /// From its features to digits.
    reader: Linear,
}

impl Base {
    /// The logits of ten digits.
    pub fn digits(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        self.reader.forward(&self.net.features(images)?)
    }
}

/// Steps, images in each, and the highest learning rate.
const STEPS: usize = 2000;
const IMAGES: (u32, u32) = (32, 4);
const LEARNING_RATE: f64 = 0.002;

/// Trains the network that is frozen later. It learns to tell digits apart, by a layer of its own for
/// that, and to answer what is asked in training as well as that can be without hearing it.
pub fn pretrain(run: &Run) -> Result<Base> {
    let vars = VarMap::new();
    let vb = run.variables(&vars);
    let (net, reader) = (Classifier::new(vb.clone())?, linear(64, 10, vb.pp("reader"))?);
    let base = Base { vars, net, reader };
    let steps = STEPS.min(run.steps());
    let training = Training {
        name: "classifier",
        length: Length::Steps { steps, rounds: 4, measured: "digits read right" },
        learning_rate: LEARNING_RATE,
        weight_decay: WEIGHT_DECAY,
        checkpoint: Checkpoint::new(&run.out, "classifier", format!("{:?}", run.args)),
        resume: run.args.run.resume,
    };
    let loss = |step| {
        let batch =
            run.train.draw(&mut rng_of([run.args.run.common.seed, step as u64, 0, 0]), IMAGES)?;
        let reading = loss::cross_entropy(&base.digits(&batch.images)?, &batch.digits)?;
        let answering = loss::cross_entropy(&base.net.forward(&batch.images)?, &batch.answers)?;
        Ok((reading + answering)?)
    };
    let measure = || score::digits_read(&base, &run.validation.pictures);
    training.run(Variables::plain(&base.vars), loss, measure)?;
    Ok(base)
}
