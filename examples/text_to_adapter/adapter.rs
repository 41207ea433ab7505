//! The hypernetwork, from the vector of a sentence to adapters of the classifier's three layers.

use anyhow::Result;
use candle_core::Tensor;
use hypernn::nn::{VarMap, loss};
use hypernn::{Pretrained, hypernetwork};
use hypernn_examples::checkpoint::Checkpoint;
use hypernn_examples::random::rng_of;
use hypernn_examples::training::{History, Length, Training, Variables};
use rand::Rng;

use crate::classifier::{Base, Classifier};
use crate::questions::Questions;
use crate::run::{Run, WEIGHT_DECAY};
use crate::score;

hypernetwork! {
    /// From a sentence to low-rank adapters; all else of the classifier is frozen.
    pub struct TextAdapter for Classifier {
        embedding: encoder(384, [256, 256], gelu, 32, 32),
        generator: linear,
        mode: dynamic,
        roles: [
            ("first.weight", lora(4, 4.)),
            ("second.weight", lora(4, 4.)),
            ("answer.weight", lora(2, 2.)),
            ("*", freeze),
        ],
    }
}

/// Starts as the classifier, whatever the sentence.
pub fn new(run: &Run, base: &Base) -> Result<(VarMap, TextAdapter)> {
    let path = run.out.join("classifier.safetensors");
    base.vars.save(&path)?;
    let vars = VarMap::new();
    let hyper = TextAdapter::new_from(run.variables(&vars), Pretrained::open(&path)?)?;
    Ok((vars, hyper))
}

/// Trains the hypernetwork, or goes on with that.
pub fn train(run: &Run, hyper: &TextAdapter, vars: &VarMap) -> Result<History> {
    let training = Training {
        name: "hypernetwork",
        length: Length::Steps { steps: run.steps(), rounds: 10, measured: "validation accuracy" },
        learning_rate: run.args.learning_rate,
        weight_decay: WEIGHT_DECAY,
        checkpoint: Checkpoint::new(&run.out, "hypernetwork", format!("{:?}", run.args)),
        resume: run.args.run.resume,
    };
    let measure = || {
        let Questions { tasks, pictures } = &run.validation;
        Ok(score::mean(&score::adapted(hyper, tasks, pictures)?).balanced)
    };
    let variables = Variables { all: vars, trained: hyper.trainable() };
    training.run(variables, |step| loss(run, hyper, step), measure)
}

/// How well this step's questions are answered.
fn loss(run: &Run, hyper: &TextAdapter, step: usize) -> Result<Tensor> {
    let args = &run.args;
    let mut rng = rng_of([args.run.common.seed, step as u64, 0, 0]);
    let batch = run.train.draw(&mut rng, (args.batch_size, args.images))?;
    let vectors = (&batch.vectors + noise(&mut rng, &batch.vectors)? * args.noise)?;
    let params = hyper.generate_params(&vectors)?;
    Ok(loss::cross_entropy(&params.forward(&batch.images)?, &batch.answers)?)
}

/// Values of mean 0 and variance 1, as many as there are here. A vector that is not quite the
/// sentence's stands for one of another wording.
fn noise(rng: &mut impl Rng, like: &Tensor) -> candle_core::Result<Tensor> {
    let bound = 3f32.sqrt();
    let values = (0..like.elem_count()).map(|_| rng.random_range(-bound..bound)).collect();
    Tensor::from_vec(values, like.shape(), like.device())
}
