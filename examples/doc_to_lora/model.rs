//! The language model, and the hypernetwork over it.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use hypernn::nn::{VarBuilder, VarMap};
use hypernn::{GeneratedParams, HyperTarget, Sequences, hypernetwork};
use hypernn_models::{Decoder, DecoderConfig};

use crate::language::{Document, PADDING, VOCABULARY};

/// The width of a hidden state.
const WIDTH: usize = 96;

/// The rank of the adapter of one chunk.
const RANK: usize = 2;

/// Blocks below the hidden states that are read.
const READ: usize = 2;

/// Tokens of a chunk, at most: one sentence.
pub const CHUNK: usize = 9;

hypernetwork! {
    /// From the hidden states of a chunk to adapters: each query of the perceiver becomes one rank of all of them.
    pub struct DocToLora for Decoder {
        config: DecoderConfig,
        embedding: perceiver(WIDTH, RANK, 128, 2, 4),
        generator: per_module(32, [256], gelu).by_row(),
        mode: dynamic,
        roles: [
            ("*.self_attn.v_proj.weight", lora(RANK, 16.)),
            ("*.mlp.down_proj.weight", lora(RANK, 16.)),
            ("*", freeze),
        ],
    }
}

/// The sizes of the language model.
///
/// # Errors
/// None that is known.
pub fn config() -> Result<DecoderConfig> {
    Ok(DecoderConfig::from_json(&format!(
        r#"{{
            "model_type": "llama", "vocab_size": {VOCABULARY}, "hidden_size": {WIDTH}, "intermediate_size": 192,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32,
            "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "tie_word_embeddings": true
        }}"#
    ))?)
}

/// The bytes of keys and values that so many tokens take in a cache, in f32.
pub fn cache_bytes(config: &DecoderConfig, tokens: usize) -> usize {
    let heads = config.num_key_value_heads * config.head_dim;
    2 * config.num_hidden_layers * heads * tokens * size_of::<f32>()
}

/// The language model and what writes its adapters.
pub struct Reader {
    /// The language model, frozen.
    pub decoder: Decoder,
    /// The hypernetwork.
    pub hyper: DocToLora,
    device: Device,
}

impl Reader {
    /// A hypernetwork that starts as the model itself.
    ///
    /// # Errors
    /// candle's own.
    pub fn new(model: &VarMap, vb: VarBuilder<'_>, device: &Device) -> Result<Self> {
        let (config, frozen) = (config()?, frozen(model, device)?);
        let decoder = Decoder::with_config(&config, frozen.clone())?;
        let hyper = DocToLora::new_from(&config, vb, frozen)?;
        Ok(Self { decoder, hyper, device: device.clone() })
    }

    /// The adapters of documents, a set for each. A document is read chunk by chunk, and the adapters of its chunks are
    /// put together along the rank, so that it may be of any length.
    ///
    /// # Errors
    /// candle's own.
    pub fn read(&self, documents: &[&Document]) -> Result<GeneratedParams<Decoder>> {
        let chunks: Vec<_> = documents.iter().map(|document| document.chunks(CHUNK)).collect();
        let counts: Vec<_> = chunks.iter().map(Vec::len).collect();
        let states = self.states(&chunks.concat())?;
        Ok(self.hyper.generate_params(&states)?.concat_rank_by(&counts)?)
    }

    /// The hidden states of chunks.
    fn states(&self, chunks: &[Vec<u32>]) -> Result<Sequences> {
        let longest = chunks.iter().map(Vec::len).max().unwrap_or(0);
        let lengths: Vec<_> = chunks.iter().map(|chunk| chunk.len() as u32).collect();
        let ids: Vec<_> = chunks.iter().map(|chunk| padded(chunk, longest)).collect();
        let ids = Tensor::new(ids, &self.device)?;
        let states = self.decoder.blocks(0..READ, &self.decoder.embed(&ids)?, None)?.detach();
        Ok(Sequences::padded(&states, &Tensor::new(lengths, &self.device)?)?)
    }
}

/// The values of the model's variables, through which no gradient is followed.
fn frozen(model: &VarMap, device: &Device) -> Result<VarBuilder<'static>> {
    let Ok(vars) = model.data().lock() else { anyhow::bail!("the variables are poisoned") };
    let tensors = vars.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor()));
    Ok(VarBuilder::from_tensors(tensors.collect(), DType::F32, device))
}

/// Tokens, and padding behind them, where a causal model's tokens do not see it.
pub fn padded(tokens: &[u32], length: usize) -> Vec<u32> {
    tokens.iter().copied().chain(std::iter::repeat(PADDING)).take(length).collect()
}
