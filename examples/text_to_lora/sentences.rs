//! Sentences as vectors: MiniLM (Wang et al. 2020), or words as numbers for a run without data.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter::repeat_n;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use hypernn::HyperTarget;
use hypernn::nn::VarBuilder;
use hypernn_examples::data::fetched;
use hypernn_examples::random::rng_of;
use hypernn_models::encoder::Pooling;
use hypernn_models::tokenizer::{self, Tokenizer};
use hypernn_models::{Encoder, EncoderConfig};
use rand::Rng;

/// The width of a sentence's vector.
pub const WIDTH: usize = 384;

/// Sentences that go through the encoder at once.
const BATCH: usize = 64;

/// What turns sentences into vectors of [`WIDTH`].
pub enum Sentences {
    /// A sentence encoder and its tokenizer.
    MiniLm(Box<(Encoder, Tokenizer)>),
    /// The mean of a random vector for each word.
    Words,
}

impl Sentences {
    /// MiniLM, which `data/fetch.sh minilm` fetches.
    ///
    /// # Errors
    /// It is not there.
    pub fn minilm() -> Result<Self> {
        let path = |file| fetched::path("minilm", file);
        let config = EncoderConfig::open(path("config.json")?)?;
        let weights = fetched::read("minilm", "model.safetensors")?;
        let vb = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
        let encoder = Encoder::with_config(&config, vb)?;
        Ok(Self::MiniLm(Box::new((encoder, tokenizer::open(path("tokenizer.json")?)?))))
    }

    /// The vectors of sentences, `[sentences, WIDTH]`, each of mean square 1.
    ///
    /// # Errors
    /// There is no sentence, or the encoder's own.
    pub fn encode(&self, sentences: &[String]) -> Result<Tensor> {
        let batches = sentences.chunks(BATCH).map(|batch| self.encode_batch(batch));
        let vectors = Tensor::cat(&batches.collect::<Result<Vec<_>>>()?, 0)?;
        Ok(vectors.broadcast_div(&vectors.sqr()?.mean_keepdim(1)?.sqrt()?)?)
    }

    fn encode_batch(&self, sentences: &[String]) -> Result<Tensor> {
        let Self::MiniLm(minilm) = self else {
            let vectors: Vec<_> = sentences.iter().map(|sentence| sum_of_words(sentence)).collect();
            return Ok(Tensor::new(vectors, &Device::Cpu)?);
        };
        let (encoder, tokenizer) = &**minilm;
        let tokens = sentences.iter().map(|text| tokenizer::encode(tokenizer, text, true));
        let tokens = tokens.collect::<candle_core::Result<Vec<_>>>()?;
        let (ids, mask) = right_padded(&tokens)?;
        let hidden = encoder.forward_with(&ids, None, Some(&mask))?;
        Ok(Pooling::Mean.pool(&hidden, Some(&mask))?)
    }
}

/// Tokens with padding behind the shorter ones, and their mask.
fn right_padded(rows: &[Vec<u32>]) -> Result<(Tensor, Tensor)> {
    let longest = rows.iter().map(Vec::len).max().context("there is no sentence")?;
    let padded = |fill: fn(&u32) -> u32| {
        let row =
            |row: &Vec<u32>| row.iter().map(fill).chain(repeat_n(0, longest - row.len())).collect();
        rows.iter().map(row).collect::<Vec<Vec<_>>>()
    };
    let ids = Tensor::new(padded(|id| *id), &Device::Cpu)?;
    Ok((ids, Tensor::new(padded(|_| 1), &Device::Cpu)?.to_dtype(DType::U8)?))
}

fn sum_of_words(sentence: &str) -> Vec<f32> {
    let mut sum = vec![0.; WIDTH];
    for word in sentence.split_whitespace() {
        let mut hasher = DefaultHasher::new();
        word.hash(&mut hasher);
        let mut rng = rng_of([hasher.finish(), 0, 0, 0]);
        sum.iter_mut().for_each(|value| *value += rng.random_range(-1f32..1.));
    }
    sum
}
