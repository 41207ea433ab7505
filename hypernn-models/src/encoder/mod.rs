//! Encoders of BERT's family.

mod config;

use candle_core::{D, DType, Module, Result, Tensor, bail};
use hypernn::HyperTarget;
use hypernn::nn::{AttentionMask, Embedding, LayerNorm, Linear, attention};

use config::OutputConfig;
pub use config::{Activation, EncoderConfig};

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
    #[hyper(layer_norm(config.hidden_size, eps = config.layer_norm_eps), name = "LayerNorm")]
    norm: LayerNorm,
}

/// One block: attention and feed-forward, each added to what came in, and normalised.
#[derive(HyperTarget)]
#[hyper(config = EncoderConfig)]
pub struct Block {
    #[hyper(target(config), name = "attention.self")]
    attention: SelfAttention,
    #[hyper(target(config.output_of(config.hidden_size)), name = "attention.output")]
    attended: Output,
    #[hyper(linear(config.hidden_size, config.intermediate_size), name = "intermediate.dense")]
    intermediate: Linear,
    #[hyper(target(config.output_of(config.intermediate_size)))]
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
    #[hyper(layer_norm(config.hidden_size, eps = config.layer_norm_eps), name = "LayerNorm")]
    norm: LayerNorm,
}

impl Embeddings {
    fn forward(&self, ids: &Tensor, types: Option<&Tensor>) -> Result<Tensor> {
        let (batch, len) = ids.dims2()?;
        let places = Tensor::arange(0u32, len as u32, ids.device())?.unsqueeze(0)?;
        let types = types.cloned().map_or_else(|| ids.zeros_like(), Ok)?;
        let xs = self.word_embeddings.forward(ids)?;
        // For each row, so that each set of weights has its own.
        let places = places.broadcast_as((batch, len))?.contiguous()?;
        let xs = (xs + self.position_embeddings.forward(&places)?)?;
        self.norm.forward(&(xs + self.token_type_embeddings.forward(&types)?)?)
    }
}

impl SelfAttention {
    fn forward(&self, xs: &Tensor, mask: &AttentionMask) -> Result<Tensor> {
        let (batch, len, width) = xs.dims3()?;
        let split = |layer: &Linear| {
            layer.forward(xs)?.reshape((batch, len, self.heads, ()))?.transpose(1, 2)
        };
        let scale = ((width / self.heads) as f64).powf(-0.5);
        let (q, k, v) = (split(&self.query)?, split(&self.key)?, split(&self.value)?);
        attention(&q, &k, &v, mask, scale)?.transpose(1, 2)?.flatten_from(2)
    }
}

impl Output {
    fn forward(&self, xs: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.norm.forward(&(self.dense.forward(xs)? + residual)?)
    }
}

impl Block {
    fn forward(&self, xs: &Tensor, mask: &AttentionMask) -> Result<Tensor> {
        let xs = self.attended.forward(&self.attention.forward(xs, mask)?, xs)?;
        let inner = self.activation.apply(&self.intermediate.forward(&xs)?)?;
        self.output.forward(&inner, &xs)
    }
}

impl Encoder {
    /// The sizes and settings that it was built with.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// The hidden states `[B, T, H]` of tokens `[B, T]`. `types` says of which segment each token is, `u32` of
    /// `[B, T]`, the first where there are none; `mask` is `u8` of `[B, T]`, 1 for a token and 0 for padding, which
    /// stands behind the tokens; [`right_padded`](crate::right_padded) makes both.
    ///
    /// # Errors
    /// A sequence that is longer than the model's context, a token that is not in the vocabulary, a mask of another
    /// shape or with padding before a token.
    pub fn forward_with(
        &self,
        ids: &Tensor,
        types: Option<&Tensor>,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let [batch, len] = *ids.dims() else {
            bail!("encoder: the tokens have shape {:?}, expected [batch, length]", ids.dims());
        };
        let context = self.config.max_position_embeddings;
        if len > context {
            bail!(
                "encoder: a sequence of {len} tokens, expected at most {context}, the model's context"
            );
        }
        let keys = match mask {
            Some(mask) => {
                padding::check(mask, (batch, len))?;
                padding::check_behind(mask)?;
                AttentionMask::none().with_keys(mask)
            }
            None => AttentionMask::none(),
        };
        let xs = self.embeddings.forward(ids, types)?;
        self.layers.iter().try_fold(xs, |xs, block| block.forward(&xs, &keys))
    }
}

/// Hidden states: `u32` of `[B, T]` to `[B, T, H]`.
impl Module for Encoder {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        self.forward_with(ids, None, None)
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// How the hidden states of a text become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over the tokens that are no padding, as in the MiniLM sentence encoders (Reimers and Gurevych 2019).
    Mean,
    /// That of the first token, `[CLS]`.
    First,
}

impl Pooling {
    /// Hidden states `[B, T, H]` to `[B, H]`; `mask` is that of the tokens.
    ///
    /// # Errors
    /// A mask of another shape, or one that has no token in a row.
    pub fn pool(self, hidden: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (batch, len, _) = hidden.dims3()?;
        match (self, mask) {
            (Self::First, _) => hidden.narrow(1, 0, 1)?.squeeze(1),
            (Self::Mean, None) => hidden.mean(1),
            (Self::Mean, Some(mask)) => {
                padding::check(mask, (batch, len))?;
                if let Some(row) =
                    mask.to_vec2::<u8>()?.iter().position(|row| row.iter().all(|at| *at == 0))
                {
                    bail!("pooling: row {row} has no token, all are padding");
                }
                let mask = mask.ne(0u8)?.to_dtype(hidden.dtype())?.unsqueeze(2)?;
                hidden.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)
            }
        }
    }
}

/// Vectors `[B, H]` of length 1, so that their products are cosines.
///
/// # Errors
/// candle's own.
pub fn normalized(vectors: &Tensor) -> Result<Tensor> {
    let wide = if vectors.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let length = vectors.to_dtype(wide)?.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    vectors.broadcast_div(&length.clamp(1e-12, f64::MAX)?.to_dtype(vectors.dtype())?)
}
