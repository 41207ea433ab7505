//! The language model that is adapted, and the hypernetwork over it.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use hypernn::gguf::Gguf;
use hypernn::nn::{VarBuilder, VarMap};
use hypernn::{HyperTarget, Pretrained, hypernetwork, seeded};
use hypernn_examples::data::fetched;
use hypernn_models::{Decoder, DecoderConfig, tokenizer};

use crate::sentences::WIDTH;
use crate::words::Words;

/// The first block with adapters: what comes out of those below it is the same in each step, and is kept.
pub const FIRST_ADAPTED: usize = 20;

hypernetwork! {
    /// From the vector of a sentence to adapters of the upper blocks; all else of the model is frozen.
    pub struct TextToLora for Decoder {
        config: DecoderConfig,
        embedding: encoder(WIDTH, [], gelu, 1, 48),
        generator: per_module(64, [256, 256], gelu),
        mode: dynamic,
        roles: [
            // The pattern of twenty to twenty-nine matches the third block as well.
            ("model.layers.2.*", freeze),
            ("model.layers.2*.q_proj.weight", lora(8, 16.)),
            ("model.layers.2*.v_proj.weight", lora(8, 16.)),
            ("model.layers.2*.o_proj.weight", lora(8, 16.)),
            ("*", freeze),
        ],
    }
}

/// The model: its sizes, its weights and its tokens.
pub struct Model {
    /// Its sizes.
    pub config: DecoderConfig,
    /// Its weights.
    pub pretrained: Pretrained<'static>,
    /// Its tokens.
    pub words: Words,
    /// As tables name it.
    pub name: &'static str,
}

impl Model {
    /// SmolLM2-135M-Instruct, which `data/fetch.sh smollm2` fetches.
    ///
    /// # Errors
    /// It is not there.
    pub fn smollm2() -> Result<Self> {
        let path = fetched::path("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")?;
        let file = Gguf::open(&path)?;
        Ok(Self {
            config: DecoderConfig::from_gguf(&file)?,
            pretrained: Pretrained::open(&path)?,
            words: Words::Tokens(Box::new(tokenizer::from_gguf(&file)?)),
            name: "SmolLM2-135M-Instruct",
        })
    }

    /// As many blocks as SmolLM2 has, but small and of random weights, over bytes.
    ///
    /// # Errors
    /// candle's own.
    pub fn random() -> Result<Self> {
        let config = DecoderConfig::from_json(
            r#"{
                "model_type": "llama", "vocab_size": 257, "hidden_size": 16, "intermediate_size": 32,
                "num_hidden_layers": 22, "num_attention_heads": 4, "num_key_value_heads": 2,
                "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "eos_token_id": 256
            }"#,
        )?;
        let vb = seeded::var_builder(&VarMap::new(), 1, DType::F32, &Device::Cpu);
        Decoder::with_config(&config, vb.clone())?;
        Ok(Self { config, pretrained: vb.into(), words: Words::Bytes, name: "random weights" })
    }

    /// The token that ends an answer.
    ///
    /// # Errors
    /// The model has none.
    pub fn end(&self) -> Result<u32> {
        self.config
            .eos_token_ids
            .first()
            .copied()
            .context("the model has no token that ends a text")
    }
}

/// The hidden states that the first adapted block takes, of tokens `[B, T]`.
///
/// # Errors
/// candle's own.
pub fn below_adapters(decoder: &Decoder, ids: &Tensor) -> Result<Tensor> {
    Ok(decoder.blocks(0..FIRST_ADAPTED, &decoder.embed(ids)?, None)?)
}

/// The hypernetwork, which starts as the model itself, and the model's tokens.
///
/// # Errors
/// Weights that do not fit the sizes.
pub fn hypernetwork(model: Model, vb: VarBuilder<'_>) -> Result<(TextToLora, Words)> {
    Ok((TextToLora::new_from(&model.config, vb, model.pretrained)?, model.words))
}
