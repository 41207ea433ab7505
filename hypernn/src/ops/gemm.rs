//! Products of matrices on the CPU, in f32 and f64, by `hypernn_kernels::matmul`.
//!
//! candle's `matmul` shares a product out among rayon's threads, and its other operations among those of a pool of
//! its own, which spin for a while when they are done: the two get in each other's way, and so would products
//! inside of parts that are shared out already. Here all goes by candle's pool.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, D, Layout, Result, bail};
use hypernn_kernels::Matrix;
use hypernn_kernels::matmul::{Product, matmul_batch};

use super::kernels::{CandleThreads, kernel};
use super::scalar::Scalar;

/// Whether products of f32 and f64 are computed here: with these features, candle's are faster.
pub(super) const DIRECT: bool = !cfg!(any(feature = "mkl", feature = "accelerate"));

/// `[B, M, K]` times `[B, K, N]`, whatever their strides.
pub(super) fn matmul(
    lhs: &CpuStorage,
    ll: &Layout,
    rhs: &CpuStorage,
    rl: &Layout,
) -> Result<CpuStorage> {
    match (lhs, rhs) {
        (CpuStorage::F32(lhs), CpuStorage::F32(rhs)) if DIRECT => {
            batched(lhs, ll, rhs, rl).map(CpuStorage::F32)
        }
        (CpuStorage::F64(lhs), CpuStorage::F64(rhs)) if DIRECT => {
            batched(lhs, ll, rhs, rl).map(CpuStorage::F64)
        }
        (lhs, rhs) => {
            let ((b, m, k), n) = (ll.shape().dims3()?, rl.dim(D::Minus1)?);
            lhs.matmul(rhs, (b, m, n, k), ll, rl)
        }
    }
}

fn batched<T: Scalar>(lhs: &[T], ll: &Layout, rhs: &[T], rl: &Layout) -> Result<Vec<T>> {
    let ((batch, _, k), (others, inner, _)) = (ll.shape().dims3()?, rl.shape().dims3()?);
    if batch != others || k != inner {
        bail!("a product of {:?} and {:?}", ll.shape(), rl.shape());
    }
    let product = |index| kernel(Product::new(matrix(lhs, ll, index)?, matrix(rhs, rl, index)?));
    let products = (0..batch).map(product).collect::<Result<Vec<_>>>()?;
    kernel(matmul_batch(&products, &CandleThreads))
}

/// Matrix number `index` of values `[B, rows, columns]`.
fn matrix<'a, T>(values: &'a [T], layout: &Layout, index: usize) -> Result<Matrix<'a, T>> {
    let (dims, strides) = (layout.dims(), layout.stride());
    let start = layout.start_offset() + index * strides[0];
    let values = &values[start.min(values.len())..];
    kernel(Matrix::strided(values, [dims[1], dims[2]], [strides[1], strides[2]]))
}
