//! Questions and answers as the upper blocks of the model take them.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use hypernn::GeneratedParams;
use hypernn::nn::cross_entropy;
use hypernn_models::Decoder;
use hypernn_models::tokenizer::smollm2_chat;

use crate::model::{FIRST_ADAPTED, below_adapters};
use crate::tasks::Question;
use crate::words::Words;

/// Sequences that go through the lower blocks at once.
const BATCH: usize = 64;

/// How tokens are made of a question.
#[derive(Clone, Copy)]
pub struct Writing<'a> {
    /// From text to tokens.
    pub words: &'a Words,
    /// What ends an answer.
    pub end: u32,
    /// What comes before the answer.
    pub prompt: Prompt,
}

/// What comes before an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// The input alone: the adapter has to know the task.
    Input,
    /// The description of the task, and the input.
    Described,
    /// The description and the input as a user's message in a chat.
    Chat,
}

/// A question with its answer: its tokens, and what the first adapted block takes of them.
pub struct Sequence {
    /// The tokens of the prompt and of the answer, but for the end.
    tokens: Vec<u32>,
    /// Where the answer begins.
    answer: usize,
    /// The tokens of the answer, with the end.
    expected: Vec<u32>,
    /// `[T, H]` in half precision, once they were computed.
    states: Option<Tensor>,
}

impl Writing<'_> {
    /// The text before an answer.
    fn before(&self, description: &str, input: &str) -> String {
        match self.prompt {
            Prompt::Input => format!("{input} ="),
            Prompt::Described => format!("{description}: {input} ="),
            Prompt::Chat => {
                let message = format!("{description}. Reply with the answer alone.\n{input}");
                smollm2_chat(&[("user", &message)])
            }
        }
    }

    /// The tokens before an answer.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn prompt(&self, description: &str, input: &str) -> Result<Vec<u32>> {
        self.words.encode(&self.before(description, input))
    }

    /// A question about a task in these words.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn sequence(&self, description: &str, question: &Question) -> Result<Sequence> {
        let mut tokens = self.prompt(description, &question.input)?;
        let answer = match self.prompt {
            Prompt::Chat => question.answer.clone(),
            _ => format!(" {}", question.answer),
        };
        let mut expected = self.words.encode(&answer)?;
        let start = tokens.len();
        tokens.extend(&expected);
        expected.push(self.end);
        Ok(Sequence { tokens, answer: start, expected, states: None })
    }
}

impl Sequence {
    /// The number of its tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }
}

/// Computes what the first adapted block takes, for sequences that lack it; after each batch, `done` is given the
/// number of sequences.
///
/// # Errors
/// candle's own.
pub fn compute_states(
    decoder: &Decoder,
    sequences: &mut [&mut Sequence],
    done: impl Fn(usize),
) -> Result<()> {
    // Those of a batch are about as long as each other.
    sequences.sort_by_key(|sequence| sequence.len());
    for batch in sequences.chunks_mut(BATCH) {
        let longest = batch.iter().map(|sequence| sequence.len()).max().unwrap_or(0);
        let ids = batch.iter().map(|sequence| padded(&sequence.tokens, longest, 0));
        let ids = Tensor::new(ids.collect::<Vec<_>>(), &Device::Cpu)?;
        let states = below_adapters(decoder, &ids)?.to_dtype(DType::F16)?;
        for (at, sequence) in batch.iter_mut().enumerate() {
            sequence.states =
                Some(states.get(at)?.narrow(0, 0, sequence.len())?.force_contiguous()?);
        }
        done(batch.len());
    }
    Ok(())
}

fn padded(tokens: &[u32], len: usize, fill: u32) -> Vec<u32> {
    tokens.iter().copied().chain(std::iter::repeat(fill)).take(len).collect()
}

/// Sequences side by side. Padding comes last, where a causal model's tokens do not see it.
pub struct Batch {
    /// `[B, T, H]`.
    states: Tensor,
    /// Where the tokens of all answers are predicted, in `[B × T]`: the head is large, and is asked for these alone.
    places: Tensor,
    /// The tokens that are expected there.
    expected: Tensor,
    /// How many of them each sequence has.
    lengths: Vec<usize>,
}

impl Batch {
    /// Of sequences whose states were computed.
    ///
    /// # Errors
    /// There are none.
    pub fn new(sequences: &[&Sequence]) -> Result<Self> {
        let longest =
            sequences.iter().map(|sequence| sequence.len()).max().context("an empty batch")?;
        let states = sequences.iter().map(|sequence| {
            let states = sequence.states.as_ref().context("a sequence without states")?;
            Ok(states.pad_with_zeros(0, 0, longest - sequence.len())?)
        });
        let states = Tensor::stack(&states.collect::<Result<Vec<_>>>()?, 0)?;
        let places = sequences.iter().enumerate().flat_map(|(row, sequence)| {
            let first = (row * longest + sequence.answer - 1) as u32;
            first..first + sequence.expected.len() as u32
        });
        let expected = sequences.iter().flat_map(|sequence| sequence.expected.iter().copied());
        Ok(Self {
            states: states.to_dtype(DType::F32)?,
            places: Tensor::from_iter(places, &Device::Cpu)?,
            expected: Tensor::from_iter(expected, &Device::Cpu)?,
            lengths: sequences.iter().map(|sequence| sequence.expected.len()).collect(),
        })
    }

    /// The logits of the answers' tokens, one after the other, with adapters of which each has its run of sequences.
    fn logits(&self, params: &GeneratedParams<Decoder>) -> Result<Tensor> {
        let decoder = params.unpack()?;
        let hidden = decoder.forward_from(FIRST_ADAPTED, &self.states, None)?;
        Ok(decoder.head(&hidden.flatten_to(1)?.index_select(&self.places, 0)?)?)
    }

    /// The mean cross-entropy of the answers' tokens.
    ///
    /// # Errors
    /// candle's own.
    pub fn loss(&self, params: &GeneratedParams<Decoder>) -> Result<Tensor> {
        // Nothing is left out: there is no such token.
        Ok(cross_entropy(&self.logits(params)?, &self.expected, u32::MAX)?)
    }

    /// Whether each answer is written as expected, by always taking the likeliest token; with the end, or whatever
    /// comes after the answer.
    ///
    /// # Errors
    /// candle's own.
    pub fn right(&self, params: &GeneratedParams<Decoder>, with_end: bool) -> Result<Vec<bool>> {
        let found = self.logits(params)?.argmax(candle_core::D::Minus1)?.to_vec1::<u32>()?;
        let expected = self.expected.to_vec1::<u32>()?;
        let mut start = 0;
        let right = self.lengths.iter().map(|len| {
            let counted = start..start + if with_end { *len } else { len - 1 };
            start += len;
            found[counted.clone()] == expected[counted]
        });
        Ok(right.collect())
    }
}
