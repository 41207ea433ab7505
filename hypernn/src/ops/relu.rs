//! The rectifier.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};

use super::pool;
use super::scalar::{Scalar, is_direct, values, wide};

/// Values from which on threads gain more than it takes to wake them.
const PARALLEL: usize = 1 << 17;

/// `max(x, 0)`, whose gradient passes where `x ≥ 0`, as candle's does.
///
/// candle's own backward makes four tensors of the input's size, where one will do.
pub(crate) fn relu(xs: &Tensor) -> Result<Tensor> {
    if is_direct(xs) { xs.contiguous()?.apply_op1(Relu) } else { xs.relu() }
}

struct Relu;

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (start, len) = (layout.start_offset(), layout.shape().elem_count());
        let ys = match xs {
            CpuStorage::F32(xs) => CpuStorage::F32(positive(&xs[start..start + len])),
            CpuStorage::F64(xs) => CpuStorage::F64(positive(&xs[start..start + len])),
            xs => bail!("relu: the dtype is {:?}, expected f32 or f64", xs.dtype()),
        };
        Ok((ys, layout.shape().clone()))
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        match xs.dtype() {
            DType::F64 => passed::<f64>(xs, &grad).map(Some),
            _ => passed::<f32>(xs, &grad).map(Some),
        }
    }
}

fn positive<T: Scalar>(xs: &[T]) -> Vec<T> {
    pairwise(xs, xs, |x, _| if x > T::default() { x } else { T::default() })
}

/// The gradient where the input is not negative.
fn passed<T: Scalar>(xs: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let pass = |x, grad| if x >= T::default() { grad } else { T::default() };
    let passed = values(xs, |xs: &[T]| values(grad, |grad: &[T]| pairwise(xs, grad, pass)))??;
    Tensor::from_vec(passed, xs.shape(), &Device::Cpu)
}

/// A function of each pair of values, shared out among threads where they are many.
fn pairwise<T: Scalar>(left: &[T], right: &[T], f: impl Fn(T, T) -> T + Copy + Sync) -> Vec<T> {
    let pairs = left.iter().zip(right).map(|(&left, &right)| (left, right));
    let threads = if left.len() < PARALLEL { 1 } else { pool::threads() };
    if threads == 1 {
        return wide(|| pairs.map(|(left, right)| f(left, right)).collect());
    }
    let (part, mut out) = (left.len().div_ceil(threads), vec![T::default(); left.len()]);
    let parts = out.chunks_mut(part).zip(left.chunks(part)).zip(right.chunks(part));
    pool::each(parts.collect(), true, |((out, left), right)| {
        let pairs = left.iter().zip(right);
        wide(|| out.iter_mut().zip(pairs).for_each(|(out, (&x, &y))| *out = f(x, y)));
    });
    out
}
