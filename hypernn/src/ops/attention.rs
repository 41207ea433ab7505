//! Scaled dot-product attention, which keeps no weights for its backward.

use candle_core::{D, DType, Device, Result, Tensor};
use hypernn_kernels::attention::{self, Asked, Attention};

use super::dtype::internal;
use super::kernels::{CandleThreads, kernel};
use super::scalar::{CpuHeads, CpuSlice, Scalar, is_direct, rows_together};
use super::second_order::{ensure_detached, keeps_graph};
use super::softmax::softmax;
use super::with_backward::node;

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

    /// The rows of queries for each head of keys.
    fn rows(&self) -> usize {
        self.group() * self.queries
    }

    fn output(&self) -> (usize, usize, usize, usize) {
        (self.batch, self.heads, self.queries, self.value_width)
    }
}

/// Which keys a query may attend to.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use hypernn::nn::AttentionMask;
///
/// # fn main() -> candle_core::Result<()> {
/// // Two sequences of at most three tokens, padded in front.
/// let keys = Tensor::new(&[[0u8, 1, 1], [1, 1, 1]], &Device::Cpu)?;
/// let mask = AttentionMask::causal().with_keys(&keys);
/// # let _ = mask;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct AttentionMask {
    pub(crate) causal: bool,
    pub(crate) keys: Option<Tensor>,
}

/// `[batch, heads, queries, value_width]`.
pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sizes: AttentionSizes,
    mask: AttentionMask,
    scale: f64,
) -> Result<Tensor> {
    let shape = sizes.output();
    if sizes.keys == 0 || sizes.batch * sizes.heads * sizes.queries * sizes.value_width == 0 {
        return Tensor::zeros(shape, q.dtype(), q.device());
    }
    // The graph of the weights is that of their gradients.
    if keeps_graph() {
        return Operands { q, k, v, sizes, mask: &mask, scale }.outputs();
    }
    let [detached_q, detached_k, detached_v] = [q, k, v].map(Tensor::detach);
    let operands =
        Operands { q: &detached_q, k: &detached_k, v: &detached_v, sizes, mask: &mask, scale };
    let ys = operands.forward()?;
    node("attention", ys, [q, k, v], move |[q, k, v], ys, grad| {
        ensure_detached("attention")?;
        let asked = Asked { q: q.track_op(), k: k.track_op(), v: v.track_op() };
        let [q, k, v] = [q, k, v].map(Tensor::detach);
        let operands = Operands { q: &q, k: &k, v: &v, sizes, mask: &mask, scale };
        operands.backward(&ys.detach(), grad, asked)
    })
}

/// What attention is computed from.
struct Operands<'a> {
    q: &'a Tensor,
    k: &'a Tensor,
    v: &'a Tensor,
    sizes: AttentionSizes,
    mask: &'a AttentionMask,
    scale: f64,
}

impl Operands<'_> {
    fn forward(&self) -> Result<Tensor> {
        match self.q.dtype() {
            DType::F64 if is_direct(self.q) => self.direct_forward::<f64>(),
            DType::F32 if is_direct(self.q) => self.direct_forward::<f32>(),
            _ => self.outputs(),
        }
    }

    fn backward(&self, ys: &Tensor, grad: &Tensor, asked: Asked) -> Result<[Option<Tensor>; 3]> {
        match self.q.dtype() {
            DType::F64 if is_direct(self.q) => self.direct_backward::<f64>(ys, grad, asked),
            DType::F32 if is_direct(self.q) => self.direct_backward::<f32>(ys, grad, asked),
            _ => self.composed_backward(ys, grad, asked),
        }
    }

    fn direct_forward<T: Scalar>(&self) -> Result<Tensor> {
        let ys = self
            .with_kernel(|attention: Attention<'_, T>| kernel(attention.forward(&CandleThreads)))?;
        Tensor::from_vec(ys, self.sizes.output(), &Device::Cpu)
    }

    fn direct_backward<T: Scalar>(
        &self,
        ys: &Tensor,
        grad: &Tensor,
        asked: Asked,
    ) -> Result<[Option<Tensor>; 3]> {
        let (ys, grad) = (rows_together(ys)?, rows_together(&grad.detach())?);
        let (ys, grad) = (CpuHeads::new(&ys), CpuHeads::new(&grad));
        let grads = self.with_kernel(|attention: Attention<'_, T>| {
            kernel(attention.backward(ys.heads()?, grad.heads()?, asked, &CandleThreads))
        })?;
        let tensor = |asked: bool, grad: Vec<T>, like: &Tensor| {
            asked.then(|| Tensor::from_vec(grad, like.shape(), &Device::Cpu)).transpose()
        };
        Ok([
            tensor(asked.q, grads.q, self.q)?,
            tensor(asked.k, grads.k, self.k)?,
            tensor(asked.v, grads.v, self.v)?,
        ])
    }

    fn with_kernel<T: Scalar, R>(
        &self,
        compute: impl FnOnce(Attention<'_, T>) -> Result<R>,
    ) -> Result<R> {
        let (q, k, v) = (rows_together(self.q)?, rows_together(self.k)?, rows_together(self.v)?);
        let (q, k, v) = (CpuHeads::new(&q), CpuHeads::new(&k), CpuHeads::new(&v));
        let keys = self.mask.keys.as_ref().map(Tensor::contiguous).transpose()?;
        let keys = keys.as_ref().map(CpuSlice::new).transpose()?;
        let keys = keys.as_ref().map(CpuSlice::values::<u8>).transpose()?;
        let mask = attention::Mask { causal: self.mask.causal, keys };
        compute(kernel(Attention::new(q.heads()?, k.heads()?, v.heads()?, mask, self.scale))?)
    }

    /// The outputs by candle's operations.
    fn outputs(&self) -> Result<Tensor> {
        let weights = self.weights()?.to_dtype(self.v.dtype())?;
        weights.matmul(&self.v.contiguous()?)?.reshape(self.sizes.output())
    }

    /// Queries by head of keys, `[B, K, H / K × T, D]`: the keys are not copied for each head that they serve.
    fn rows(&self) -> Result<Tensor> {
        let AttentionSizes { batch, key_heads, width, .. } = self.sizes;
        self.q.contiguous()?.reshape((batch, key_heads, self.sizes.rows(), width))
    }

    /// The weights by candle's operations, `[B, K, H / K × T, S]`.
    fn weights(&self) -> Result<Tensor> {
        let AttentionSizes { batch, key_heads, queries, keys, .. } = self.sizes;
        let scores = (self.rows()? * self.scale)?.matmul(&self.k.contiguous()?.t()?)?;
        let scores = scores.to_dtype(internal(self.q.dtype()))?;
        let by_head = (batch, key_heads, self.sizes.group(), queries, keys);
        let allowed = self.mask.allowed(&self.sizes, self.q.device())?;
        let weights = masked_softmax(&scores.reshape(by_head)?, allowed)?;
        weights.reshape((batch, key_heads, self.sizes.rows(), keys))
    }

    /// The gradients by candle's operations.
    fn composed_backward(
        &self,
        ys: &Tensor,
        grad: &Tensor,
        asked: Asked,
    ) -> Result<[Option<Tensor>; 3]> {
        let AttentionSizes { batch, key_heads, value_width, .. } = self.sizes;
        let by_key_head = (batch, key_heads, self.sizes.rows(), value_width);
        let (grad, ys) = (grad.contiguous()?.reshape(by_key_head)?, ys.reshape(by_key_head)?);
        let (weights, dtype) = (self.weights()?, self.q.dtype());
        let of_v = || weights.to_dtype(dtype)?.t()?.matmul(&grad);
        let of_v = asked.v.then(of_v).transpose()?;
        if !asked.q && !asked.k {
            return Ok([None, None, of_v]);
        }
        let slopes = grad.matmul(&self.v.contiguous()?.t()?)?.to_dtype(weights.dtype())?;
        let mean = (grad * ys)?.to_dtype(weights.dtype())?.sum_keepdim(D::Minus1)?;
        let of_scores =
            ((weights * slopes.broadcast_sub(&mean)?)? * self.scale)?.to_dtype(dtype)?;
        let of_q = || of_scores.matmul(&self.k.contiguous()?)?.reshape(self.q.shape());
        let of_k = || of_scores.t()?.matmul(&self.rows()?);
        Ok([asked.q.then(of_q).transpose()?, asked.k.then(of_k).transpose()?, of_v])
    }
}

/// The softmax of scores `[B, K, H / K, T, S]` over what may be attended to, 0 elsewhere.
fn masked_softmax(scores: &Tensor, allowed: Option<Tensor>) -> Result<Tensor> {
    let Some(allowed) = allowed else { return softmax(scores) };
    let allowed = allowed.broadcast_as(scores.shape())?;
    let lowest = Tensor::new(-1e30, scores.device())?.to_dtype(scores.dtype())?;
    let masked = allowed.where_cond(scores, &lowest.broadcast_as(scores.shape())?)?;
    // Where nothing may be attended to, all scores are the same.
    allowed.where_cond(&softmax(&masked)?, &scores.zeros_like()?)
}

impl AttentionMask {
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
