//! Sentences as vectors: MiniLM (Wang et al. 2020) as trained by sentence-transformers, run by
//! candle-transformers.

use anyhow::{Context, Result, anyhow};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use hypernn_examples::data::fetched;
use tokenizers::{Encoding, PaddingParams, Tokenizer};

use crate::encoder::Encode;

/// Sentences that go through the network at once.
const BATCH: usize = 64;

/// The network and its tokenizer.
pub struct MiniLm {
    tokenizer: Tokenizer,
    bert: BertModel,
}

impl MiniLm {
    /// Reads both from what `data/fetch.sh minilm` has put in place.
    pub fn load(device: &Device) -> Result<Self> {
        let config: Config = serde_json::from_slice(&fetched::read("minilm", "config.json")?)?;
        let weights = fetched::read("minilm", "model.safetensors")?;
        let vb = VarBuilder::from_buffered_safetensors(weights, DType::F32, device)?;
        Ok(Self { tokenizer: tokenizer()?, bert: BertModel::load(vb, &config)? })
    }

    /// The mean of the last layer over a sentence's own words, as sentence-transformers takes it.
    fn encode_batch(&self, sentences: Vec<&str>) -> Result<Tensor> {
        let encodings = self.tokenizer.encode_batch(sentences, true);
        let encodings = encodings.map_err(|err| anyhow!("the sentences have no tokens: {err}"))?;
        let ids = self.numbers(&encodings, Encoding::get_ids)?;
        let mask = self.numbers(&encodings, Encoding::get_attention_mask)?;
        let words = self.bert.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
        let mean = words.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)?;
        Ok(mean.broadcast_div(&mean.sqr()?.sum_keepdim(1)?.sqrt()?)?)
    }

    fn numbers(&self, encodings: &[Encoding], of: fn(&Encoding) -> &[u32]) -> Result<Tensor> {
        let rows: Vec<_> = encodings.iter().map(|encoding| of(encoding).to_vec()).collect();
        Ok(Tensor::new(rows, &self.bert.device)?)
    }
}

impl Encode for MiniLm {
    /// Sentences of a batch are about as long as each other, since each is filled up to the longest.
    fn encode(&self, sentences: &[&str]) -> Result<Tensor> {
        let mut order: Vec<_> = (0..sentences.len()).collect();
        order.sort_by_key(|&at| sentences[at].len());
        let batches = order
            .chunks(BATCH)
            .map(|batch| self.encode_batch(batch.iter().map(|&at| sentences[at]).collect()));
        let sorted = Tensor::cat(&batches.collect::<Result<Vec<_>>>()?, 0)?;
        let mut places = vec![0; order.len()];
        (0u32..).zip(order).for_each(|(place, at)| places[at] = place);
        Ok(sorted.index_select(&Tensor::new(places, sorted.device())?, 0)?)
    }
}

/// The file asks for 128 tokens of each sentence; as many as the longest of a batch are enough.
fn tokenizer() -> Result<Tokenizer> {
    let file = fetched::path("minilm", "tokenizer.json")?;
    let tokenizer = Tokenizer::from_file(&file).map_err(|err| anyhow!(err));
    let mut tokenizer = tokenizer.with_context(|| format!("cannot read {}", file.display()))?;
    tokenizer.with_padding(Some(PaddingParams::default()));
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The similarities that sentence-transformers gives for this model in its documentation, to the
    /// four digits that are printed there.
    #[test]
    #[ignore = "needs examples/data/fetch.sh minilm"]
    fn sentences_are_as_similar_as_in_sentence_transformers() -> Result<()> {
        let sentences =
            ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."];
        let vectors = MiniLm::load(&Device::Cpu)?.encode(&sentences)?;
        let found = vectors.matmul(&vectors.t()?)?.to_vec2::<f32>()?;
        let expected = [[1., 0.6660, 0.1046], [0.6660, 1., 0.1411], [0.1046, 0.1411, 1.]];
        for (found, expected) in found.concat().into_iter().zip(expected.concat()) {
            assert!((found - expected).abs() < 6e-5f32, "{found} {expected}");
        }
        Ok(())
    }
}
