//! Batched matrix products whose gradients are computed only where something asks for them.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, Error, Layout, MetalStorage, Result, Shape, Tensor,
};

use super::gemm;
use super::outer::outer;
use super::scalar::is_direct;
use super::second_order::operand;

/// `lhs [B, M, K]` times `rhs [B, K, N]`.
///
/// Candle's own product computes both gradients, also that of an input that nothing trains.
pub(crate) fn product(lhs: &Tensor, rhs: &Tensor) -> Result<Tensor> {
    lhs.contiguous()?.apply_op2(&rhs.contiguous()?, BatchedProduct { transposed: false })
}

/// `lhs [B, K, M]`, transposed, times `rhs [B, K, N]`.
pub(crate) fn product_transposed(lhs: &Tensor, rhs: &Tensor) -> Result<Tensor> {
    lhs.contiguous()?.apply_op2(&rhs.contiguous()?, BatchedProduct { transposed: true })
}

/// `values [G, S]` repeated as `rows` rows: `[G, rows, S]`.
///
/// As a product, because candle's backward of a broadcast is slow on the CPU where it sums over any
/// dimension but the last.
pub(crate) fn repeat_rows(values: &Tensor, rows: usize) -> Result<Tensor> {
    let (sets, _) = values.dims2()?;
    let ones = Tensor::ones((sets, rows, 1), values.dtype(), values.device())?;
    product(&ones, &values.unsqueeze(1)?)
}

/// `lhs [B, M, K]` times `rhs [B, K, N]`, for gradients: no node of the graph where neither is tracked.
pub(super) fn matmul(lhs: &Tensor, rhs: &Tensor) -> Result<Tensor> {
    #[cfg(test)]
    PRODUCTS.set(PRODUCTS.get() + 1);
    if !is_direct(lhs) {
        return lhs.matmul(rhs);
    }
    let product = BatchedProduct { transposed: false };
    if lhs.track_op() || rhs.track_op() {
        return lhs.apply_op2(rhs, product);
    }
    lhs.apply_op2_no_bwd(rhs, &product)
}

#[cfg(test)]
thread_local! {
    /// The products that gradients took on this thread, but for outer ones.
    static PRODUCTS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Runs a backward, and counts the products that its gradients take.
#[cfg(test)]
pub(crate) fn count_products<R>(run: impl FnOnce() -> R) -> (R, usize) {
    let before = PRODUCTS.get();
    (run(), PRODUCTS.get() - before)
}

/// `leftᵀ · right` of each set, `left [G, rows, m]` and `right [G, rows, n]` to `[G, m, n]`.
pub(super) fn product_over_rows(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    if left.dim(1)? == 1 {
        return outer(left, right);
    }
    matmul(&left.transpose(1, 2)?, right)
}

/// As candle's own `matmul` asks of tensors; its storages on a device have another message, without the dtypes.
fn ensure_same_dtype<S: BackendStorage>(lhs: &S, rhs: &S) -> Result<()> {
    let (lhs, rhs) = (lhs.dtype(), rhs.dtype());
    if lhs == rhs {
        return Ok(());
    }
    Err(Error::DTypeMismatchBinaryOp { lhs, rhs, op: "mat_mul" }.bt())
}

struct BatchedProduct {
    transposed: bool,
}

impl BatchedProduct {
    fn lhs_layout(&self, ll: &Layout) -> Result<Layout> {
        if self.transposed { ll.transpose(1, 2) } else { Ok(ll.clone()) }
    }

    fn run<S: BackendStorage>(
        &self,
        lhs: &S,
        ll: &Layout,
        rhs: &S,
        rl: &Layout,
    ) -> Result<(S, Shape)> {
        let ll = self.lhs_layout(ll)?;
        let (batch, m, k) = ll.shape().dims3()?;
        let (_, _, n) = rl.shape().dims3()?;
        ensure_same_dtype(lhs, rhs)?;
        Ok((lhs.matmul(rhs, (batch, m, n, k), &ll, rl)?, Shape::from((batch, m, n))))
    }

    /// Row-major, like `lhs` itself.
    fn lhs_grad(&self, rhs: &Tensor, grad: &Tensor) -> Result<Tensor> {
        if self.transposed { matmul(rhs, &grad.t()?) } else { matmul(grad, &rhs.t()?) }
    }

    fn rhs_grad(&self, lhs: &Tensor, grad: &Tensor) -> Result<Tensor> {
        if self.transposed { matmul(lhs, grad) } else { matmul(&lhs.t()?, grad) }
    }
}

impl CustomOp2 for BatchedProduct {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        lhs: &CpuStorage,
        ll: &Layout,
        rhs: &CpuStorage,
        rl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ll = self.lhs_layout(ll)?;
        let ((batch, m, _), (_, _, n)) = (ll.shape().dims3()?, rl.shape().dims3()?);
        Ok((gemm::matmul(lhs, &ll, rhs, rl)?, Shape::from((batch, m, n))))
    }

    fn cuda_fwd(
        &self,
        lhs: &CudaStorage,
        ll: &Layout,
        rhs: &CudaStorage,
        rl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.run(lhs, ll, rhs, rl)
    }

    fn metal_fwd(
        &self,
        lhs: &MetalStorage,
        ll: &Layout,
        rhs: &MetalStorage,
        rl: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        self.run(lhs, ll, rhs, rl)
    }

    fn bwd(
        &self,
        lhs: &Tensor,
        rhs: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let lhs_grad = lhs.track_op().then(|| self.lhs_grad(&operand(rhs), &grad)).transpose()?;
        let rhs_grad = rhs.track_op().then(|| self.rhs_grad(&operand(lhs), &grad)).transpose()?;
        Ok((lhs_grad, rhs_grad))
    }
}
