//! The outer product of one row with one row, for each set: a product of inner size one, which a
//! general matmul spends most of its time preparing.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use hypernn_kernels::simd::dispatch;

use super::product::product_transposed;
use super::scalar::is_direct;

/// `left [G, 1, m]`, `right [G, 1, n]` to `[G, m, n]`; a node of the graph where one of them is tracked.
pub(crate) fn outer(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    if left.track_op() || right.track_op() {
        return product_transposed(left, right);
    }
    if is_direct(left) {
        return left.contiguous()?.apply_op2_no_bwd(&right.contiguous()?, &Outer);
    }
    left.transpose(1, 2)?.matmul(right)
}

/// Reached on the CPU alone: elsewhere a matmul does the same in one launch.
struct Outer;

impl CustomOp2 for Outer {
    fn name(&self) -> &'static str {
        "outer"
    }

    fn cpu_fwd(
        &self,
        left: &CpuStorage,
        ll: &Layout,
        right: &CpuStorage,
        rl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((sets, _, m), (_, _, n)) = (ll.shape().dims3()?, rl.shape().dims3()?);
        let (from_left, from_right) = (ll.start_offset(), rl.start_offset());
        let products = match (left, right) {
            (CpuStorage::F32(left), CpuStorage::F32(right)) => {
                CpuStorage::F32(products(&left[from_left..], &right[from_right..], sets, m, n))
            }
            (CpuStorage::F64(left), CpuStorage::F64(right)) => {
                CpuStorage::F64(products(&left[from_left..], &right[from_right..], sets, m, n))
            }
            (left, right) => {
                crate::error::bail!(
                    dtype,
                    "outer: {:?} and {:?}, expected one of f32 and f64",
                    left.dtype(),
                    right.dtype()
                )
            }
        };
        Ok((products, Shape::from((sets, m, n))))
    }
}

fn products<T: Copy + std::ops::Mul<Output = T>>(
    left: &[T],
    right: &[T],
    sets: usize,
    m: usize,
    n: usize,
) -> Vec<T> {
    let mut out = Vec::with_capacity(sets * m * n);
    dispatch(|| {
        for set in 0..sets {
            outer_into(&mut out, &left[set * m..(set + 1) * m], &right[set * n..(set + 1) * n]);
        }
    });
    out
}

/// Appends the products of one set.
#[inline(always)]
pub(super) fn outer_into<T: Copy + std::ops::Mul<Output = T>>(
    out: &mut Vec<T>,
    left: &[T],
    right: &[T],
) {
    for &left in left {
        out.extend(right.iter().map(|&right| left * right));
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn outer_is_a_matmul() -> Result<()> {
        let left = Tensor::randn(0., 1., (3, 1, 4), &Device::Cpu)?;
        let right = Tensor::randn(0., 1., (3, 1, 5), &Device::Cpu)?;
        let expected = left.transpose(1, 2)?.matmul(&right)?;
        assert_eq!(outer(&left, &right)?.to_vec3::<f64>()?, expected.to_vec3::<f64>()?);
        Ok(())
    }
}
