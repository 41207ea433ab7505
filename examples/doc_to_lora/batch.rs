//! Questions about documents as tensors.

use anyhow::Result;
use candle_core::{D, Device, Tensor};
use hypernn::nn::cross_entropy;
use hypernn_models::Decoder;
use hypernn_models::decoder::pick;
use rand::Rng;

use crate::language::{Document, Needle, PADDING, QUESTION};
use crate::model::padded;

/// Documents with the same number of questions about each.
pub struct Batch<'a> {
    /// The documents.
    pub documents: Vec<&'a Document>,
    /// Questions about the first, then about the second, and so on.
    questions: Vec<Needle>,
    device: Device,
}

impl<'a> Batch<'a> {
    /// So many questions about each document, the same again where it has fewer needles.
    pub fn new(documents: Vec<&'a Document>, questions: usize, device: &Device) -> Self {
        let asked = documents
            .iter()
            .flat_map(|document| document.needles.iter().copied().cycle().take(questions));
        let asked = asked.collect();
        Self { documents, questions: asked, device: device.clone() }
    }

    /// So many questions about each document to which it has no answer.
    pub fn not_said(&self, questions: usize, rng: &mut impl Rng) -> Self {
        let asked =
            self.documents.iter().flat_map(|document| document.not_said(questions, rng)).collect();
        Self { documents: self.documents.clone(), questions: asked, device: self.device.clone() }
    }

    /// The number of questions about each document.
    fn asked(&self) -> usize {
        self.questions.len() / self.documents.len().max(1)
    }

    /// The expected tokens, `[questions]`.
    ///
    /// # Errors
    /// candle's own.
    pub fn expected(&self) -> Result<Tensor> {
        let numbers: Vec<_> = self.questions.iter().map(|needle| needle.number).collect();
        Ok(Tensor::new(numbers, &self.device)?)
    }

    /// The logits of the answers with the documents in the prompt, `[questions, V]`. The questions about a document
    /// follow it one after the other, each with its answer.
    ///
    /// # Errors
    /// candle's own.
    pub fn prompted(&self, decoder: &Decoder) -> Result<Tensor> {
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        for (document, questions) in self.documents.iter().zip(self.questions.chunks(self.asked()))
        {
            let mut row = document.tokens();
            let mut of_row = Vec::new();
            for needle in questions {
                row.extend(needle.question());
                of_row.push(row.len() as u32 - 1);
                row.push(needle.number);
            }
            rows.push(row);
            places.push(of_row);
        }
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let rows: Vec<_> = rows.iter().map(|row| padded(row, longest)).collect();
        let hidden = decoder.hidden(&Tensor::new(rows, &self.device)?, None)?;
        let answers = pick(&hidden, &Tensor::new(places, &self.device)?)?;
        Ok(decoder.head(&answers)?.flatten_to(1)?)
    }

    /// The logits of the answers to the questions alone, `[questions, V]`: each document's questions take the set of
    /// weights that is its own.
    ///
    /// # Errors
    /// candle's own.
    pub fn alone(&self, decoder: &Decoder) -> Result<Tensor> {
        let questions: Vec<_> = self.questions.iter().map(|needle| needle.question()).collect();
        let ids = Tensor::new(questions.concat(), &self.device)?.reshape(((), QUESTION))?;
        let hidden = decoder.hidden(&ids, None)?.narrow(1, QUESTION - 1, 1)?.squeeze(1)?;
        Ok(decoder.head(&hidden)?)
    }

    /// The share of answers that are the expected ones.
    ///
    /// # Errors
    /// candle's own.
    pub fn right(&self, logits: &Tensor) -> Result<f64> {
        let (found, expected) = (logits.argmax(D::Minus1)?, self.expected()?);
        let (found, expected) = (found.to_vec1::<u32>()?, expected.to_vec1::<u32>()?);
        let right = found.iter().zip(&expected).filter(|(found, expected)| found == expected);
        Ok(right.count() as f64 / expected.len().max(1) as f64)
    }
}

/// The loss of a language model that reads each document twice, the second time with its sentences in another order, for
/// the tokens of the second reading.
///
/// # Errors
/// candle's own.
pub fn second_reading(
    decoder: &Decoder,
    documents: &[Document],
    rng: &mut impl Rng,
    device: &Device,
) -> Result<Tensor> {
    let length = documents.iter().map(|document| 2 * document.tokens().len()).max().unwrap_or(0);
    let (mut rows, mut expected) = (Vec::new(), Vec::new());
    for document in documents {
        let (first, second) = (document.tokens(), document.in_another_order(rng));
        let unasked = vec![PADDING; first.len() - 1];
        expected.push(padded(&[&unasked[..], &second].concat(), length));
        rows.push(padded(&[first, second].concat(), length));
    }
    let hidden = decoder.hidden(&Tensor::new(rows, device)?, None)?;
    let logits = decoder.head(&hidden)?.flatten_to(1)?;
    Ok(cross_entropy(&logits, &Tensor::new(expected, device)?.flatten_all()?, PADDING)?)
}

/// The cross-entropy of what one model says beside what another, which is not trained, says: distillation (Hinton et
/// al. 2015; of contexts Snell et al. 2022).
///
/// # Errors
/// candle's own.
pub fn distillation(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let expected = hypernn::nn::softmax(&teacher.detach())?;
    let found = candle_nn::ops::log_softmax(student, D::Minus1)?;
    Ok((expected * found)?.sum(D::Minus1)?.mean_all()?.neg()?)
}
