//! The language model of `golden/language.py`, by hand: two layers of Llama, named as Hugging Face names them.

use candle_core::{D, DType, Device, Module, Result, Tensor};
use hypernn::HyperTarget;
use hypernn::nn::{Embedding, Linear, RmsNorm, ops};

use crate::{device, golden};

const WIDTH: usize = 32;
const VOCABULARY: usize = 48;
const HEADS: usize = 4;
const KEY_HEADS: usize = 2;
const HEAD: usize = WIDTH / HEADS;
const HIDDEN: usize = 32;
const THETA: f64 = 10000.;

/// A tensor of `p_logits.safetensors`, what transformers computed, on the device of the tests.
///
/// # Errors
/// candle's own.
pub fn reference(name: &str) -> Result<Tensor> {
    stored(name)?.to_device(device())
}

/// The tokens for which that was computed.
///
/// # Errors
/// candle's own.
pub fn ids() -> Result<Tensor> {
    // candle has no kernel for CUDA that makes `u32` of the file's integers.
    stored("ids")?.to_dtype(DType::U32)?.to_device(device())
}

fn stored(name: &str) -> Result<Tensor> {
    let tensors =
        candle_core::safetensors::load(golden::path("p_logits.safetensors"), &Device::Cpu)?;
    match tensors.get(name) {
        Some(tensor) => Ok(tensor.clone()),
        None => candle_core::bail!("p_logits.safetensors has no `{name}`"),
    }
}

/// Token ids `[B, T]` to logits `[B, T, 48]`.
#[derive(HyperTarget)]
pub struct Llama {
    model: Model,
    #[hyper(linear_no_bias(WIDTH, VOCABULARY))]
    lm_head: Linear,
}

/// The same, with the table of its embedding for a head.
#[derive(HyperTarget)]
pub struct TiedLlama {
    #[hyper(embedding(VOCABULARY, WIDTH), name = "model.embed_tokens")]
    embed_tokens: Embedding,
    #[hyper([target; 2], name = "model.layers")]
    layers: [Block; 2],
    #[hyper(rms_norm(WIDTH, 1e-5), name = "model.norm")]
    norm: RmsNorm,
    #[hyper(linear_no_bias(WIDTH, VOCABULARY), tie(weight = embed_tokens.weight))]
    lm_head: Linear,
}

#[derive(HyperTarget)]
struct Model {
    #[hyper(embedding(VOCABULARY, WIDTH))]
    embed_tokens: Embedding,
    #[hyper([target; 2])]
    layers: [Block; 2],
    #[hyper(rms_norm(WIDTH, 1e-5))]
    norm: RmsNorm,
}

#[derive(HyperTarget)]
struct Block {
    #[hyper(rms_norm(WIDTH, 1e-5))]
    input_layernorm: RmsNorm,
    self_attn: Attention,
    #[hyper(rms_norm(WIDTH, 1e-5))]
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

#[derive(HyperTarget)]
struct Attention {
    #[hyper(linear_no_bias(WIDTH, WIDTH))]
    q_proj: Linear,
    #[hyper(linear_no_bias(WIDTH, KEY_HEADS * HEAD))]
    k_proj: Linear,
    #[hyper(linear_no_bias(WIDTH, KEY_HEADS * HEAD))]
    v_proj: Linear,
    #[hyper(linear_no_bias(WIDTH, WIDTH))]
    o_proj: Linear,
}

#[derive(HyperTarget)]
struct Mlp {
    #[hyper(linear_no_bias(WIDTH, HIDDEN))]
    gate_proj: Linear,
    #[hyper(linear_no_bias(WIDTH, HIDDEN))]
    up_proj: Linear,
    #[hyper(linear_no_bias(HIDDEN, WIDTH))]
    down_proj: Linear,
}

impl Module for Llama {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        self.lm_head.forward(&self.model.forward(ids)?)
    }
}

impl Module for TiedLlama {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let mut xs = self.embed_tokens.forward(ids)?;
        for layer in &self.layers {
            xs = layer.forward(&xs)?;
        }
        self.lm_head.forward(&self.norm.forward(&xs)?)
    }
}

impl Module for Model {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let mut xs = self.embed_tokens.forward(ids)?;
        for layer in &self.layers {
            xs = layer.forward(&xs)?;
        }
        self.norm.forward(&xs)
    }
}

impl Module for Block {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let xs = (xs + self.self_attn.forward(&self.input_layernorm.forward(xs)?)?)?;
        &xs + self.mlp.forward(&self.post_attention_layernorm.forward(&xs)?)?
    }
}

impl Module for Mlp {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let gate = self.gate_proj.forward(xs)?.silu()?;
        self.down_proj.forward(&(gate * self.up_proj.forward(xs)?)?)
    }
}

impl Module for Attention {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (batch, len, _) = xs.dims3()?;
        let heads = |xs: Tensor, heads| xs.reshape((batch, len, heads, HEAD))?.transpose(1, 2);
        let q = rotated(&heads(self.q_proj.forward(xs)?, HEADS)?)?;
        let k = repeated(&rotated(&heads(self.k_proj.forward(xs)?, KEY_HEADS)?)?)?;
        let v = repeated(&heads(self.v_proj.forward(xs)?, KEY_HEADS)?)?;
        let scores = (q.contiguous()?.matmul(&k.t()?.contiguous()?)? / (HEAD as f64).sqrt())?;
        let weights = ops::softmax(&scores.broadcast_add(&mask(len, xs)?)?, D::Minus1)?;
        let xs = weights.matmul(&v.contiguous()?)?.transpose(1, 2)?;
        self.o_proj.forward(&xs.reshape((batch, len, WIDTH))?)
    }
}

/// Heads of keys or values for all heads of queries.
fn repeated(xs: &Tensor) -> Result<Tensor> {
    let (batch, heads, len, width) = xs.dims4()?;
    let times = HEADS / KEY_HEADS;
    let xs = xs.unsqueeze(2)?.broadcast_as((batch, heads, times, len, width))?;
    xs.reshape((batch, HEADS, len, width))
}

/// The first half of each head turned with the second.
fn rotated(xs: &Tensor) -> Result<Tensor> {
    let (len, half) = (xs.dim(2)?, HEAD / 2);
    let angle = |at: usize| {
        let (position, index) = (at / half, at % half);
        position as f64 * THETA.powf(-((2 * index) as f64) / HEAD as f64)
    };
    let angles: Vec<_> = (0..len * half).map(angle).collect();
    let angles = Tensor::from_vec(angles, (len, half), xs.device())?;
    let (sin, cos) = (angles.sin()?.to_dtype(xs.dtype())?, angles.cos()?.to_dtype(xs.dtype())?);
    let (first, second) = (xs.narrow(3, 0, half)?, xs.narrow(3, half, half)?);
    let left = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
    let right = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
    Tensor::cat(&[left, right], 3)
}

/// Zero where a position may look, minus infinity where it is later.
fn mask(len: usize, like: &Tensor) -> Result<Tensor> {
    let value = |at: usize| if at % len > at / len { f64::NEG_INFINITY } else { 0. };
    let values: Vec<_> = (0..len * len).map(value).collect();
    let mask = Tensor::from_vec(values, (len, len), like.device())?;
    mask.to_dtype(like.dtype())
}
