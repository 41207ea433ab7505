//! Scaled dot-product attention.

use candle_core::{Device, Result, Tensor};

use super::dtype::internal;
use super::softmax::softmax;

/// The sizes of queries `[batch, heads, queries, width]`, keys `[batch, key_heads, keys, width]` and values
/// `[batch, key_heads, keys, value_width]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionSizes {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) key_heads: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) width: usize,
    pub(crate) value_width: usize,
}

impl AttentionSizes {
    /// The heads of queries that share a head of keys.
    fn group(&self) -> usize {
        self.heads / self.key_heads
    }

    fn output(&self) -> (usize, usize, usize, usize) {
        (self.batch, self.heads, self.queries, self.value_width)
    }
}

/// Which keys a query may attend to.
pub(crate) struct Mask {
    /// Those up to its own position.
    pub(crate) causal: bool,
    /// Those that this has a 1 for, u8 `[batch, keys]`.
    pub(crate) keys: Option<Tensor>,
}

/// `[batch, heads, queries, value_width]`.
pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sizes: AttentionSizes,
    mask: &Mask,
    scale: f64,
) -> Result<Tensor> {
    let shape = sizes.output();
    if sizes.keys == 0 || sizes.batch * sizes.heads * sizes.queries * sizes.value_width == 0 {
        return Tensor::zeros(shape, q.dtype(), q.device());
    }
    composed(q, k, v, sizes, mask, scale)
}

/// By candle's operations.
fn composed(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sizes: AttentionSizes,
    mask: &Mask,
    scale: f64,
) -> Result<Tensor> {
    let AttentionSizes { batch, key_heads, queries, keys, width, .. } = sizes;
    let (group, rows) = (sizes.group(), sizes.group() * queries);
    let q = (q.contiguous()? * scale)?.reshape((batch, key_heads, rows, width))?;
    let scores = q.matmul(&k.contiguous()?.t()?)?.to_dtype(internal(q.dtype()))?;
    let scores = scores.reshape((batch, key_heads, group, queries, keys))?;
    let weights = weights(&scores, mask.allowed(&sizes, q.device())?)?;
    let weights = weights.to_dtype(v.dtype())?.reshape((batch, key_heads, rows, keys))?;
    weights.matmul(&v.contiguous()?)?.reshape(sizes.output())
}

/// The softmax of scores `[B, K, H / K, T, S]` over what may be attended to, 0 elsewhere.
fn weights(scores: &Tensor, allowed: Option<Tensor>) -> Result<Tensor> {
    let Some(allowed) = allowed else { return softmax(scores) };
    let allowed = allowed.broadcast_as(scores.shape())?;
    let lowest = Tensor::new(-1e30, scores.device())?.to_dtype(scores.dtype())?;
    let masked = allowed.where_cond(scores, &lowest.broadcast_as(scores.shape())?)?;
    // Where nothing may be attended to, all scores are the same.
    let zeros = scores.zeros_like()?;
    allowed.where_cond(&softmax(&masked)?, &zeros)
}

impl Mask {
    /// 1 where a query may attend to a key: u8 `[B, 1, 1, T, S]`, of which dimensions may be 1.
    fn allowed(&self, sizes: &AttentionSizes, device: &Device) -> Result<Option<Tensor>> {
        let AttentionSizes { batch, queries, keys, .. } = *sizes;
        let causal = self.causal.then(|| {
            let before = keys - queries;
            let rows = (0..queries)
                .flat_map(|row| (0..keys).map(move |key| u8::from(key <= row + before)));
            Tensor::from_vec(rows.collect::<Vec<_>>(), (1, 1, 1, queries, keys), device)
        });
        let of_keys =
            self.keys.as_ref().map(|of_keys| of_keys.ne(0u8)?.reshape((batch, 1, 1, 1, keys)));
        match (causal.transpose()?, of_keys.transpose()?) {
            (Some(causal), Some(of_keys)) => causal.broadcast_mul(&of_keys).map(Some),
            (causal, of_keys) => Ok(causal.or(of_keys)),
        }
    }
}
