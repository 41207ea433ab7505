//! Scaled dot-product attention.

use candle_core::{DType, Result, Tensor};

use crate::check::{ensure_float, ensure_same_dtype};
use crate::ops;
pub use crate::ops::attention::AttentionMask;
use crate::ops::attention::AttentionSizes;

impl AttentionMask {
    /// All keys.
    pub fn none() -> Self {
        Self::default()
    }

    /// The keys up to the query's own position. The `T` queries are the last `T` of the `S` keys, so that the keys of a
    /// cache may come before them.
    pub fn causal() -> Self {
        Self { causal: true, keys: None }
    }

    /// Of these keys, those that `keys` has a 1 for: u8 `[B, S]`, 0 for padding.
    #[must_use]
    pub fn with_keys(self, keys: &Tensor) -> Self {
        Self { keys: Some(keys.clone()), ..self }
    }
}

/// Attention: for each query the mean of the values, weighted by the softmax of `scale × query · key` over the keys
/// that it may attend to (Vaswani et al. 2017, equation 1).
///
/// `q` is `[B, H, T, D]`, `k` `[B, K, S, D]`, `v` `[B, K, S, Dv]`; the output is `[B, H, T, Dv]`. With fewer heads of
/// keys than of queries, each serves `H / K` consecutive ones (grouped-query attention, Ainslie et al. 2023), and is
/// not copied for them. `scale` is `1 / √D` in most models. A query that may attend to nothing gives zeros.
///
/// It has no parameters, and so nothing to do with weight sets: the batch is that of all sets.
///
/// Nothing of the size `[B, H, T, S]` is kept for the backward, which computes the weights anew. On the CPU, in f32 and
/// f64, the forward and the backward hold a few rows of them per thread at a time; elsewhere all of them, while they
/// compute. In half precision the softmax is computed in f32. Any layout will do: no copy is made of `[B, T, H, D]`
/// with its dimensions transposed.
///
/// For generation, keys and values of earlier tokens are kept by a
/// [`ConcatKvCache`](super::kv_cache::ConcatKvCache), say.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use hypernn::nn::{AttentionMask, attention};
///
/// # fn main() -> candle_core::Result<()> {
/// // One sequence, one head, two positions of one value.
/// let q = Tensor::new(&[[[[0f32], [0.]]]], &Device::Cpu)?;
/// let v = Tensor::new(&[[[[2f32], [4.]]]], &Device::Cpu)?;
/// // The first sees itself alone, the second the mean of both.
/// let ys = attention(&q, &q, &v, &AttentionMask::causal(), 1.)?;
/// assert_eq!(ys.flatten_all()?.to_vec1::<f32>()?, [2., 3.]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// A shape does not fit the others, `H` is no multiple of `K`, a causal mask has more queries than keys, the mask's keys
/// are not u8 `[B, S]`, dtypes differ, or `scale` is not finite.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: &AttentionMask,
    scale: f64,
) -> Result<Tensor> {
    let sizes = sizes(q, k, v)?;
    ensure_float("attention", "the queries' dtype", q.dtype())?;
    ensure_same_dtype("attention", "the keys' dtype", k.dtype(), "that of the queries", q.dtype())?;
    ensure_same_dtype(
        "attention",
        "the values' dtype",
        v.dtype(),
        "that of the queries",
        q.dtype(),
    )?;
    mask.check(&sizes)?;
    if !scale.is_finite() {
        crate::error::bail!(
            declaration,
            "attention: the scale is {scale}, expected a finite number"
        );
    }
    ops::attention::attention(q, k, v, sizes, mask.clone(), scale)
}

impl AttentionMask {
    fn check(&self, sizes: &AttentionSizes) -> Result<()> {
        let AttentionSizes { batch, queries, keys, .. } = *sizes;
        if self.causal && queries > keys {
            crate::error::bail!(
                shape,
                "attention: a causal mask over {queries} queries and {keys} keys, expected at least as many keys"
            );
        }
        let Some(mask) = &self.keys else { return Ok(()) };
        if mask.dims() != [batch, keys] || mask.dtype() != DType::U8 {
            crate::error::bail!(
                shape,
                "attention: the mask of keys is {:?} of shape {:?}, expected U8 of [{batch}, {keys}]",
                mask.dtype(),
                mask.dims()
            );
        }
        Ok(())
    }
}

/// The sizes of queries, keys and values that fit each other.
fn sizes(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<AttentionSizes> {
    let [batch, heads, queries, width] = dims("the queries", q)?;
    let [_, key_heads, keys, _] = dims("the keys", k)?;
    let [.., value_width] = dims("the values", v)?;
    let expected = [batch, key_heads, keys, width];
    if k.dims() != expected {
        crate::error::bail!(
            shape,
            "attention: the keys have shape {:?}, expected {expected:?} for queries of shape {:?}",
            k.dims(),
            q.dims()
        );
    }
    let expected = [batch, key_heads, keys, value_width];
    if v.dims() != expected {
        crate::error::bail!(
            shape,
            "attention: the values have shape {:?}, expected {expected:?} for keys of shape {:?}",
            v.dims(),
            k.dims()
        );
    }
    if key_heads == 0 || !heads.is_multiple_of(key_heads) {
        crate::error::bail!(
            shape,
            "attention: {heads} heads of queries over {key_heads} of keys, expected a multiple"
        );
    }
    Ok(AttentionSizes { batch, heads, key_heads, queries, keys, width, value_width })
}

fn dims(name: &str, tensor: &Tensor) -> Result<[usize; 4]> {
    match *tensor.dims() {
        [batch, heads, positions, width] => Ok([batch, heads, positions, width]),
        ref dims => crate::error::bail!(
            shape,
            "attention: {name} have shape {dims:?}, expected [batch, heads, positions, width]"
        ),
    }
}
