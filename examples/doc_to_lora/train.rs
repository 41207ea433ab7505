//! What is trained: the language model, with documents in its prompt, and the hypernetwork, from what it says then.

use anyhow::Result;
use candle_core::Tensor;
use candle_nn::loss::cross_entropy;
use hypernn::HyperTarget;
use hypernn::nn::VarMap;
use hypernn_examples::checkpoint::Checkpoint;
use hypernn_examples::random::rng_of;
use hypernn_examples::train::mean;
use hypernn_examples::training::{History, Length, Training, Variables};
use hypernn_models::Decoder;

use crate::batch::{Batch, distillation, second_reading};
use crate::language::Document;
use crate::model::{Reader, config};
use crate::run::{LONGEST, Purpose, Run};

/// The longest document that the language model is taught with, as long as the longest of the tests.
const LONGEST_OF_MODEL: usize = 4 * LONGEST;

/// The shortest document.
const SHORTEST: usize = LONGEST / 4;

/// The longest document that the language model reads twice.
const SHORT: usize = 64;

/// Documents to measure with.
const MEASURED: usize = 64;

/// Lets all matrices start as small as PyTorch's: those of linear layers with a deviation of `(3 · inputs)^-1/2`, where
/// candle's have `(2 / inputs)^1/2`, with which attention starts so sharp that it learns slowly; and the table of
/// embeddings, which is the head as well, so that logits start at about one.
fn start_small(vars: &VarMap) -> Result<()> {
    let Ok(vars) = vars.data().lock() else { anyhow::bail!("the variables are poisoned") };
    for (name, var) in vars.iter().filter(|(_, var)| var.rank() == 2) {
        let factor = match name.as_str() {
            "model.embed_tokens.weight" => (var.dim(1)? as f64).powf(-0.5),
            _ => 6f64.powf(-0.5),
        };
        var.set(&(var.as_detached_tensor() * factor)?)?;
    }
    Ok(())
}

impl Run {
    /// Teaches a language model to answer with the document in its prompt.
    ///
    /// # Errors
    /// A loss that is not finite, or a checkpoint that does not fit.
    pub fn teach(&self) -> Result<(VarMap, History)> {
        let vars = VarMap::new();
        let vb = self.args.run.common.variables(&vars, &self.device);
        let decoder = Decoder::with_config(&config()?, vb)?;
        start_small(&vars)?;
        let loss = |step: usize| match step / self.third_of_teaching() {
            0 => self.reading_loss(&decoder, step),
            _ => self.answering_loss(&decoder, step),
        };
        let measure = || {
            let documents = self.measured();
            self.right(&documents, |batch| batch.prompted(&decoder))
        };
        let (steps, rate) = (self.args.model_steps, self.args.model_learning_rate);
        let training = self.training("model", steps, rate);
        let history = training.run(Variables::plain(&vars), loss, measure)?;
        Ok((vars, history))
    }

    /// The steps in each part of the teaching: documents that are read twice, by which the model learns to find what
    /// followed a word before, many times in each document; questions about short documents; and one step in four of
    /// the last with long ones.
    fn third_of_teaching(&self) -> usize {
        (self.args.model_steps as usize / 3).max(1)
    }

    fn reading_loss(&self, decoder: &Decoder, step: usize) -> Result<Tensor> {
        let documents = self.drawn(Purpose::Model, step, SHORT);
        let mut rng = rng_of([self.args.run.common.seed, Purpose::Model as u64, step as u64, 0]);
        second_reading(decoder, &documents, &mut rng, &self.device)
    }

    fn answering_loss(&self, decoder: &Decoder, step: usize) -> Result<Tensor> {
        let long = step / self.third_of_teaching() > 1 && step % 4 == 3;
        let longest = if long { LONGEST_OF_MODEL } else { LONGEST };
        let documents = self.drawn(Purpose::Model, step, longest);
        let batch = self.batch(&documents);
        Ok(cross_entropy(&batch.prompted(decoder)?, &batch.expected()?)?)
    }

    /// Trains the hypernetwork to write what the language model says with the document in its prompt; and, asked for what
    /// the document does not say, what it says without: so that adapters of many chunks do not add up to noise.
    ///
    /// # Errors
    /// A loss that is not finite, or a checkpoint that does not fit.
    pub fn distil(&self, reader: &Reader, vars: &VarMap) -> Result<History> {
        let loss = |step: usize| {
            let documents = self.drawn(Purpose::Train, step, LONGEST);
            let batch = self.batch(&documents);
            let decoder = &reader.decoder;
            let adapted = reader.read(&batch.documents)?.unpack()?;
            let said = distillation(&batch.alone(&adapted)?, &batch.prompted(decoder)?)?;
            let mut rng =
                rng_of([self.args.run.common.seed, Purpose::Train as u64, step as u64, 0]);
            let others = batch.not_said(self.args.questions as usize, &mut rng);
            Ok((said + distillation(&others.alone(&adapted)?, &others.alone(decoder)?)?)?)
        };
        let measure = || self.recall(reader, &self.measured());
        let training = self.training("hypernetwork", self.args.steps, self.args.learning_rate);
        let variables = Variables { all: vars, trained: reader.hyper.trainable() };
        training.run(variables, loss, measure)
    }

    /// The share of right answers to all questions, without the documents, by the adapters that are written of them.
    ///
    /// # Errors
    /// candle's own.
    pub fn recall(&self, reader: &Reader, documents: &[Document]) -> Result<f64> {
        self.right(documents, |batch| {
            batch.alone(&reader.read(&batch.documents)?.detach().unpack()?)
        })
    }

    /// The share of right answers to all questions.
    ///
    /// # Errors
    /// candle's own.
    pub fn right(
        &self,
        documents: &[Document],
        logits: impl Fn(&Batch<'_>) -> Result<Tensor>,
    ) -> Result<f64> {
        let rights = documents.iter().map(|document| {
            let batch = Batch::new(vec![document], document.needles.len(), &self.device);
            batch.right(&logits(&batch)?)
        });
        Ok(mean(rights.collect::<Result<Vec<_>>>()?))
    }

    fn training<'a>(&self, name: &'a str, steps: u32, learning_rate: f64) -> Training<'a> {
        let steps = self.few(steps as usize);
        Training {
            name,
            length: Length::Steps { steps, rounds: 10, measured: "right answers" },
            learning_rate,
            weight_decay: 0.01,
            checkpoint: Checkpoint::new(&self.out, name, format!("{:?}", self.args)),
            resume: self.args.run.resume,
        }
    }

    fn drawn(&self, purpose: Purpose, step: usize, longest: usize) -> Vec<Document> {
        self.documents(purpose, step, self.args.documents as usize, (SHORTEST, longest))
    }

    fn measured(&self) -> Vec<Document> {
        self.documents(Purpose::Measure, 0, self.few(MEASURED), (SHORTEST, LONGEST))
    }

    fn batch<'a>(&self, documents: &'a [Document]) -> Batch<'a> {
        Batch::new(documents.iter().collect(), self.args.questions as usize, &self.device)
    }
}
