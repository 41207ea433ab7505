//! Encoders of BERT's family.

mod config;

use candle_core::{D, DType, Module, Result, Tensor, bail};
use hypernn::HyperTarget;
use hypernn::nn::{Activation, Embedding, LayerNorm, Linear};

pub use config::EncoderConfig;

use crate::layers::{AttentionMask, attention};
use crate::padding;

/// A text encoder as BERT (Devlin et al. 2019), such as the sentence encoders of the MiniLM family.
///
/// Tokens are `u32` of `[B, T]`, hidden states `[B, T, H]`. The names of its tensors are those of Hugging Face:
/// `embeddings.word_embeddings.weight`, `encoder.layer.0.attention.self.query.weight`,
/// `encoder.layer.0.output.LayerNorm.bias`. A file whose names have `bert.` in front is read by
/// `Pretrained::open(path)?.strip_prefix("bert.")`; the pooler that some files have is not read.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use hypernn::HyperTarget;
/// use hypernn::nn::{VarBuilder, VarMap};
/// use hypernn_models::{Encoder, EncoderConfig, encoder::Pooling};
///
/// # fn main() -> candle_core::Result<()> {
/// let config = EncoderConfig::from_json(
///     r#"{
///         "model_type": "bert", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64,
///         "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64,
///         "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"
///     }"#,
/// )?;
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let encoder = Encoder::with_config(&config, vb)?;
/// let ids = Tensor::new(&[[1u32, 2, 3], [4, 5, 0]], &Device::Cpu)?;
/// let mask = Tensor::new(&[[1u8, 1, 1], [1, 1, 0]], &Device::Cpu)?;
/// let hidden = encoder.forward_with(&ids, None, Some(&mask))?;
/// let sentences = Pooling::Mean.pool(&hidden, Some(&mask))?;
/// assert_eq!((hidden.dims(), sentences.dims()), (&[2, 3, 32][..], &[2, 32][..]));
/// # Ok(())
/// # }
/// ```
#[derive(HyperTarget)]
#[hyper(config = EncoderConfig)]
pub struct Encoder {
    #[hyper(target(config))]
    embeddings: Embeddings,
    #[hyper([target(config); config.num_hidden_layers], name = "encoder.layer")]
    layers: Vec<Block>,
    #[hyper(value = config.clone())]
    config: EncoderConfig,
}

/// The sum of the embeddings of token, place and segment, normalised.
#[derive(HyperTarget)]
#[hyper(config = EncoderConfig)]
pub struct Embeddings {
    #[hyper(embedding(config.vocab_size, config.hidden_size))]
    word_embeddings: Embedding,
    #[hyper(embedding(config.max_position_embeddings, config.hidden_size))]
    position_embeddings: Embedding,
    #[hyper(embedding(config.type_vocab_size, config.hidden_size))]
    token_type_embeddings: Embedding,
    #[hyper(layer_norm(config.hidden_size, config.layer_norm_eps), name = "LayerNorm")]
    norm: LayerNorm,
}

/// One block: attention and feed-forward, each added to what came in, and normalised.
#[derive(HyperTarget)]
#[hyper(config = EncoderConfig)]
pub struct Block {
    #[hyper(target(config), name = "attention.self")]
    attention: SelfAttention,
    #[hyper(target((config.hidden_size, config)), name = "attention.output")]
    attended: Output,
    #[hyper(linear(config.hidden_size, config.intermediate_size), name = "intermediate.dense")]
    intermediate: Linear,
    #[hyper(target((config.intermediate_size, config)))]
    output: Output,
    #[hyper(value = config.hidden_act)]
    activation: Activation,
}

/// Attention of every token to every other.
#[derive(HyperTarget)]
#[hyper(config = EncoderConfig)]
pub struct SelfAttention {
    #[hyper(linear(config.hidden_size, config.hidden_size))]
    query: Linear,
    #[hyper(linear(config.hidden_size, config.hidden_size))]
    key: Linear,
    #[hyper(linear(config.hidden_size, config.hidden_size))]
    value: Linear,
    #[hyper(value = config.num_attention_heads)]
    heads: usize,
}

/// A linear layer, whose output is added to what came in, and normalised.
#[derive(HyperTarget)]
#[hyper(config = OutputConfig)]
pub struct Output {
    #[hyper(linear(config.input, config.hidden_size))]
    dense: Linear,
    #[hyper(layer_norm(config.hidden_size, config.eps), name = "LayerNorm")]
    norm: LayerNorm,
}
