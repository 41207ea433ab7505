//! Decoders of Llama's family.

mod cache;
mod config;
mod gguf;
mod rotary;
mod window;

use std::ops::Range;

use candle_core::{DType, Device, IndexOp, Module, Result, Tensor, bail};
use candle_nn::kv_cache::ConcatKvCache;
use hypernn::nn::{AttentionMask, Embedding, Linear, RmsNorm, RotaryTables, attention};
use hypernn::{HyperTarget, recompute};

pub use cache::Cache;
pub use config::DecoderConfig;
use rotary::Angles;

use crate::padding;

/// The fewest positions that rotary angles are computed for.
const FEWEST_POSITIONS: usize = 256;

/// A language model of Llama's family: Llama 2 and 3 (Touvron et al. 2023, Grattafiori et al. 2024), SmolLM2,
/// Mistral (Jiang et al. 2023), Qwen2 (Yang et al. 2024).
///
/// Tokens are `u32` of `[B, T]`, hidden states `[B, T, H]` and logits `[B, T, V]`, in the dtype of the weights. The
/// batch comes first in all layers, so that a decoder over several sets of weights shares its rows out among them:
/// `params.unpack()?` of [`GeneratedParams`](hypernn::GeneratedParams) with an adapter for each row is a decoder for
/// a batch in which each row has its own.
///
/// The names of its tensors are those of Hugging Face: `model.embed_tokens.weight`,
/// `model.layers.0.self_attn.q_proj.weight`, `model.layers.0.mlp.gate_proj.weight`, `model.norm.weight`, and
/// `lm_head.weight` where the head is not tied.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use hypernn::HyperTarget;
/// use hypernn::nn::{Module, VarBuilder, VarMap};
/// use hypernn_models::{Decoder, DecoderConfig};
///
/// # fn main() -> candle_core::Result<()> {
/// let config = DecoderConfig::from_json(
///     r#"{
///         "model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64,
///         "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
///         "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true
///     }"#,
/// )?;
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let decoder = Decoder::with_config(&config, vb)?;
/// let ids = Tensor::new(&[[1u32, 2, 3], [4, 5, 6]], &Device::Cpu)?;
/// assert_eq!(decoder.forward(&ids)?.dims(), [2, 3, 100]);
/// # Ok(())
/// # }
/// ```
#[derive(HyperTarget)]
#[hyper(config = DecoderConfig)]
pub struct Decoder {
    #[hyper(embedding(config.vocab_size, config.hidden_size), name = "model.embed_tokens")]
    embed_tokens: Embedding,
    #[hyper([target(config); config.num_hidden_layers], name = "model.layers")]
    layers: Vec<Block>,
    #[hyper(rms_norm(config.hidden_size, config.rms_norm_eps), name = "model.norm")]
    norm: RmsNorm,
    // The head is one of two: the table, which has no tensor of its own, or a layer by itself.
    #[hyper(
        linear_no_bias(config.hidden_size, config.vocab_size),
        tie(weight = embed_tokens.weight)
    )]
    tied_head: Linear,
    #[hyper(if !config.tie_word_embeddings { linear_no_bias(config.hidden_size, config.vocab_size) })]
    lm_head: Option<Linear>,
    #[hyper(value = RotaryTables::new(&config.rotary(FEWEST_POSITIONS)))]
    rotary: RotaryTables,
    #[hyper(value = config.clone())]
    config: DecoderConfig,
}

/// One block: attention and feed-forward, each behind a norm and added to what came in.
#[derive(Clone, HyperTarget)]
#[hyper(config = DecoderConfig)]
pub struct Block {
    #[hyper(rms_norm(config.hidden_size, config.rms_norm_eps))]
    input_layernorm: RmsNorm,
    #[hyper(target(config))]
    self_attn: SelfAttention,
    #[hyper(rms_norm(config.hidden_size, config.rms_norm_eps))]
    post_attention_layernorm: RmsNorm,
    #[hyper(target(config))]
    mlp: GatedMlp,
}

/// Attention with rotary embeddings, whose heads of keys and values each serve a group of queries.
#[derive(Clone, HyperTarget)]
#[hyper(config = DecoderConfig)]
pub struct SelfAttention {
    #[hyper(linear_b(config.hidden_size, config.num_attention_heads * config.head_dim, config.qkv_bias))]
    q_proj: Linear,
    #[hyper(linear_b(config.hidden_size, config.num_key_value_heads * config.head_dim, config.qkv_bias))]
    k_proj: Linear,
    #[hyper(linear_b(config.hidden_size, config.num_key_value_heads * config.head_dim, config.qkv_bias))]
    v_proj: Linear,
    #[hyper(linear_b(config.num_attention_heads * config.head_dim, config.hidden_size, config.output_bias))]
    o_proj: Linear,
    #[hyper(value = config.head_dim)]
    head_dim: usize,
}

/// The feed-forward layers: `down(silu(gate(x)) * up(x))` (SwiGLU, Shazeer 2020).
#[derive(Clone, HyperTarget)]
#[hyper(config = DecoderConfig)]
pub struct GatedMlp {
    #[hyper(linear_b(config.hidden_size, config.intermediate_size, config.mlp_bias))]
    gate_proj: Linear,
    #[hyper(linear_b(config.hidden_size, config.intermediate_size, config.mlp_bias))]
    up_proj: Linear,
    #[hyper(linear_b(config.intermediate_size, config.hidden_size, config.mlp_bias))]
    down_proj: Linear,
}

/// What all blocks of one forward pass share.
#[derive(Clone)]
struct Pass {
    angles: Angles,
    /// Which keys are there, `u8` of `[B, S]`; all where there is none.
    keys: Option<Tensor>,
    window: Option<usize>,
}

impl Pass {
    /// The attention of queries `[B, heads, T, head_dim]` to keys and values of `S` tokens, of which theirs are the
    /// last.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Tensor> {
        let keys = self.keys.as_ref();
        if let Some(window) = self.window {
            return window::attention(q, k, v, keys, window, scale);
        }
        let mask =
            keys.map_or_else(AttentionMask::causal, |keys| AttentionMask::causal().with_keys(keys));
        attention(q, k, v, &mask, scale)
    }
}

impl Module for GatedMlp {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let gate = self.gate_proj.forward(xs)?.silu()?;
        self.down_proj.forward(&(gate * self.up_proj.forward(xs)?)?)
    }
}

impl SelfAttention {
    fn forward(
        &self,
        xs: &Tensor,
        pass: &Pass,
        cache: Option<&mut ConcatKvCache>,
    ) -> Result<Tensor> {
        let q = pass.angles.rotate(&self.heads(&self.q_proj, xs)?)?;
        let k = pass.angles.rotate(&self.heads(&self.k_proj, xs)?)?;
        let v = self.heads(&self.v_proj, xs)?;
        let (k, v) = match cache {
            Some(cache) => cache.append(&k, &v)?,
            None => (k, v),
        };
        let scale = (self.head_dim as f64).powf(-0.5);
        let ys = pass.attend(&q, &k, &v, scale)?;
        self.o_proj.forward(&ys.transpose(1, 2)?.flatten_from(2)?)
    }

    /// `[B, T, H]` to `[B, heads, T, head_dim]`.
    fn heads(&self, projection: &Linear, xs: &Tensor) -> Result<Tensor> {
        let (batch, len, _) = xs.dims3()?;
        let ys = projection.forward(xs)?.reshape((batch, len, (), self.head_dim))?;
        ys.transpose(1, 2)?.contiguous()
    }
}

impl Block {
    fn forward(
        &self,
        xs: &Tensor,
        pass: &Pass,
        cache: Option<&mut ConcatKvCache>,
    ) -> Result<Tensor> {
        let xs = (xs + self.self_attn.forward(&self.input_layernorm.forward(xs)?, pass, cache)?)?;
        &xs + self.mlp.forward(&self.post_attention_layernorm.forward(&xs)?)?
    }
}

impl Decoder {
    /// The sizes and settings that it was built with.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The logits at all positions of a batch in which some tokens are padding: `mask` is `u8` of `[B, T]`, 1 for a
    /// token and 0 for padding. What stands at the places of padding has no meaning.
    ///
    /// # Errors
    /// Those of [`hidden`](Self::hidden).
    pub fn forward_with(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        self.head(&self.hidden(ids, mask)?)
    }

    /// The hidden states `[B, T, H]` behind the last norm: what [`head`](Self::head) takes. The head over a large
    /// vocabulary costs as much as many blocks: [`pick`] chooses positions first.
    ///
    /// # Errors
    /// A sequence that is longer than the context, a token that is not in the vocabulary, a mask of another shape.
    pub fn hidden(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        self.forward_from(0, &self.embed(ids)?, mask)
    }

    /// The hidden states of tokens that follow those in the cache, which then has them too. `mask` is that of the
    /// new tokens alone.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use hypernn::HyperTarget;
    /// use hypernn::nn::{Module, VarBuilder, VarMap};
    /// use hypernn_models::{Cache, Decoder, DecoderConfig};
    ///
    /// # fn main() -> candle_core::Result<()> {
    /// # let config = DecoderConfig::from_json(
    /// #     r#"{
    /// #         "model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64,
    /// #         "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    /// #         "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true
    /// #     }"#,
    /// # )?;
    /// # let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    /// let decoder = Decoder::with_config(&config, vb)?;
    /// let mut cache = Cache::new(&config);
    /// let start = Tensor::new(&[[1u32, 2, 3]], &Device::Cpu)?;
    /// decoder.hidden_cached(&start, None, &mut cache)?;
    /// let next = Tensor::new(&[[4u32]], &Device::Cpu)?;
    /// let logits = decoder.head(&decoder.hidden_cached(&next, None, &mut cache)?)?;
    /// assert_eq!((logits.dims(), cache.len()), (&[1, 1, 100][..], 4));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`hidden`](Self::hidden), or a cache of another batch or another decoder.
    pub fn hidden_cached(
        &self,
        ids: &Tensor,
        mask: Option<&Tensor>,
        cache: &mut Cache,
    ) -> Result<Tensor> {
        let mut xs = self.embed(ids)?;
        cache.extend(&xs, mask, self.layers.len())?;
        let pass = self.pass(&xs, cache.mask(), cache.len())?;
        for (block, kept) in self.layers.iter().zip(cache.layers()) {
            xs = block.forward(&xs, &pass, Some(kept))?;
        }
        self.norm.forward(&xs)
    }

    /// The embeddings `[B, T, H]` of tokens `[B, T]`: what the first block takes.
    ///
    /// # Errors
    /// A token that is not in the vocabulary, or a shape that is not `[B, T]`.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let dims = ids.dims();
        if dims.len() != 2 {
            bail!("decoder: the tokens have shape {dims:?}, expected [batch, length]");
        }
        self.embed_tokens.forward(ids)
    }

    /// The hidden states `[B, T, H]` behind the blocks of this range, for what comes in before the first of them.
    ///
    /// # Errors
    /// Blocks that are not there, or those of [`hidden`](Self::hidden).
    pub fn blocks(
        &self,
        range: Range<usize>,
        xs: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let count = self.layers.len();
        let Some(blocks) = self.layers.get(range.clone()) else {
            bail!("decoder: blocks {range:?} of {count} are asked for");
        };
        let pass = self.pass(xs, mask, xs.dim(1)?)?;
        blocks.iter().try_fold(xs.clone(), |xs, block| self.block(block, &xs, &pass))
    }

    /// The hidden states behind the last norm, from those before block `layer` on. What comes before an adapted block
    /// is the same in each step of a training, and can be kept.
    ///
    /// # Errors
    /// Those of [`blocks`](Self::blocks).
    pub fn forward_from(&self, layer: usize, xs: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        self.norm.forward(&self.blocks(layer..self.layers.len(), xs, mask)?)
    }

    /// Logits `[…, V]` of hidden states `[…, H]`.
    ///
    /// # Errors
    /// Hidden states of another width.
    pub fn head(&self, hidden: &Tensor) -> Result<Tensor> {
        self.lm_head.as_ref().unwrap_or(&self.tied_head).forward(hidden)
    }

    /// Where its weights are.
    pub(crate) fn device(&self) -> Device {
        self.norm.weight().device().clone()
    }

    fn block(&self, block: &Block, xs: &Tensor, pass: &Pass) -> Result<Tensor> {
        if !self.config.recompute {
            return block.forward(xs, pass, None);
        }
        let (block, pass) = (block.clone(), pass.clone());
        recompute(std::slice::from_ref(xs), move |inputs| block.forward(&inputs[0], &pass, None))
    }

    /// What the blocks share, for the last tokens of `total`, whose mask, if there is one, is `[B, total]`.
    fn pass(&self, xs: &Tensor, mask: Option<&Tensor>, total: usize) -> Result<Pass> {
        let (batch, new, _) = xs.dims3()?;
        let tables = |positions| self.rotary.up_to(positions, xs.dtype(), xs.device());
        let window = self.config.sliding_window.filter(|window| *window < total);
        let Some(mask) = mask else {
            self.check_length(total)?;
            let angles = Angles::from(tables(total)?, total - new);
            return Ok(Pass { angles, keys: None, window });
        };
        padding::check(mask, (batch, total))?;
        self.check_length(padding::longest(mask)?)?;
        let positions = padding::positions(mask)?.i((.., total - new..))?.contiguous()?;
        let angles = Angles::at(tables(total)?, positions);
        Ok(Pass { angles, keys: Some(mask.clone()), window })
    }

    fn check_length(&self, len: usize) -> Result<()> {
        let context = self.config.max_position_embeddings;
        if len > context {
            bail!(
                "decoder: a sequence of {len} tokens, expected at most {context}, the model's context"
            );
        }
        Ok(())
    }
}

/// Logits at all positions: `u32` of `[B, T]` to `[B, T, V]`.
impl Module for Decoder {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        self.forward_with(ids, None)
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The hidden states `[B, N, H]` at chosen positions, `u32` of `[B, N]`, of each row of `[B, T, H]`.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> candle_core::Result<()> {
/// let hidden = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((2, 3, 1))?;
/// let positions = Tensor::new(&[[2u32], [0]], &Device::Cpu)?;
/// let picked = hypernn_models::decoder::pick(&hidden, &positions)?;
/// assert_eq!(picked.to_vec3::<f32>()?, [[[2.]], [[3.]]]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Positions that are not `[B, N]`, or not in the sequence.
pub fn pick(hidden: &Tensor, positions: &Tensor) -> Result<Tensor> {
    let (batch, len, width) = hidden.dims3()?;
    let (rows, count) = positions.dims2()?;
    if rows != batch {
        bail!("pick: positions for {rows} rows, hidden states of {batch}");
    }
    let positions = positions.to_dtype(DType::U32)?;
    if let Some(at) =
        positions.flatten_all()?.to_vec1::<u32>()?.iter().find(|at| **at as usize >= len)
    {
        bail!("pick: position {at} is out of range, the sequence has {len} tokens");
    }
    let starts = Tensor::arange_step(0u32, (batch * len) as u32, len as u32, hidden.device())?;
    let places = positions.broadcast_add(&starts.unsqueeze(1)?)?.flatten_all()?;
    hidden.flatten_to(1)?.index_select(&places, 0)?.reshape((batch, count, width))
}
