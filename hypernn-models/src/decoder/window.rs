//! Attention in which a token sees a window of those before it.

use candle_core::{DType, Result, Tensor};
use hypernn::nn::{AttentionMask, softmax};

/// What is added to the scores of keys that are not seen.
const UNSEEN: f64 = -1e30;

/// The attention of queries `[B, H, T, D]` to the last `window` keys up to their own, of keys and values
/// `[B, K, S, D]`, where `S` is larger than the window. `keys` says which keys are there, `u8` of `[B, S]`.
pub(super) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    keys: Option<&Tensor>,
    window: usize,
    scale: f64,
) -> Result<Tensor> {
    let (batch, heads, len, width) = q.dims4()?;
    let (_, groups, total, _) = k.dims4()?;
    if len == 1 {
        return attention_of_last(q, k, v, keys, window, scale);
    }
    let wide = if q.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let rows = q.reshape((batch, groups, heads / groups * len, width))?;
    let scores = (rows.matmul(&k.contiguous()?.t()?)?.to_dtype(wide)? * scale)?;
    let scores = scores.reshape((batch, heads, len, total))?;
    let scores = scores.broadcast_add(&unseen(len, total, window, keys, &scores)?)?;
    let weights = softmax(&scores)?.to_dtype(q.dtype())?;
    let weights = weights.reshape((batch, groups, heads / groups * len, total))?;
    weights.matmul(&v.contiguous()?)?.reshape((batch, heads, len, ()))
}

/// A single query sees all of the window.
fn attention_of_last(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    keys: Option<&Tensor>,
    window: usize,
    scale: f64,
) -> Result<Tensor> {
    let start = k.dim(2)? - window;
    let (k, v) = (k.narrow(2, start, window)?, v.narrow(2, start, window)?);
    let mask = match keys {
        Some(keys) => AttentionMask::none().with_keys(&keys.narrow(1, start, window)?),
        None => AttentionMask::none(),
    };
    hypernn::nn::attention(q, &k, &v, &mask, scale)
}

/// 0 for what is seen, `[1, 1, T, S]`, or `[B, 1, T, S]`.
fn unseen(
    len: usize,
    total: usize,
    window: usize,
    keys: Option<&Tensor>,
    like: &Tensor,
) -> Result<Tensor> {
    let at = (0..len).flat_map(|i| {
        let i = i + total - len;
        (0..total).map(move |j| if j <= i && i - j < window { 0. } else { UNSEEN })
    });
    let at = Tensor::from_iter(at, like.device())?
        .reshape((1, 1, len, total))?
        .to_dtype(like.dtype())?;
    let Some(keys) = keys else { return Ok(at) };
    let there = keys.ne(0u8)?.to_dtype(like.dtype())?.unsqueeze(1)?.unsqueeze(1)?;
    at.broadcast_add(&there.affine(-UNSEEN, UNSEEN)?)
}
