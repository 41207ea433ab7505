//! What turns sentences into vectors.

use anyhow::Result;
use candle_core::{Device, Tensor};
use hypernn_examples::random::rng_of;
use rand::Rng;

use crate::minilm::MiniLm;

/// The width of a sentence's vector.
pub const WIDTH: usize = 384;

/// Turns sentences into vectors.
pub trait Encode {
    /// The vectors `[sentences, 384]` of these sentences, each of length one.
    fn encode(&self, sentences: &[&str]) -> Result<Tensor>;
}

/// The ways to do that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Encoder {
    /// MiniLM, which has read much.
    Minilm,
    /// The sum of a random vector for each word: nothing has to be fetched, and nothing is known of
    /// what words have to do with each other.
    Words,
}

impl Encoder {
    /// As it is named in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minilm => "MiniLM",
            Self::Words => "words",
        }
    }

    /// Reads what it needs.
    pub fn load(self, device: &Device) -> Result<Box<dyn Encode>> {
        Ok(match self {
            Self::Minilm => Box::new(MiniLm::load(device)?),
            Self::Words => Box::new(Words(device.clone())),
        })
    }
}

struct Words(Device);

impl Encode for Words {
    fn encode(&self, sentences: &[&str]) -> Result<Tensor> {
        let rows: Vec<_> = sentences.iter().flat_map(|text| sum_of_words(text)).collect();
        let sums = Tensor::from_vec(rows, (sentences.len(), WIDTH), &self.0)?;
        Ok(sums.broadcast_div(&sums.sqr()?.sum_keepdim(1)?.sqrt()?)?)
    }
}

fn sum_of_words(text: &str) -> Vec<f32> {
    let mut sum = vec![0.; WIDTH];
    let lower = text.to_lowercase();
    for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        // A hash of the word (FNV) in the place of a table of all words.
        let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut rng = rng_of([hash, 0, 0, 0]);
        sum.iter_mut().for_each(|value| *value += rng.random_range(-1f32..1.));
    }
    sum
}
