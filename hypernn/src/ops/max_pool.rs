//! Max pooling over windows side by side, with the gradient that candle gets wrong: its own is
//! divided by the window's size, and lies at other places where the windows leave a remainder.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, DType, Layout, MetalStorage, Result, Shape,
    Tensor, bail,
};

/// `[B, C, H, W]` to `[B, C, H / size, W / size]`, where `size` divides both.
pub(crate) fn max_pool(xs: &Tensor, size: usize) -> Result<Tensor> {
    xs.contiguous()?.apply_op1(MaxPool { size })
}

struct MaxPool {
    size: usize,
}

impl MaxPool {
    fn run<S: BackendStorage>(&self, xs: &S, layout: &Layout) -> Result<(S, Shape)> {
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let window = (self.size, self.size);
        let shape = Shape::from((batch, channels, height / self.size, width / self.size));
        Ok((xs.max_pool2d(layout, window, window)?, shape))
    }

    /// Of candle's operations, for devices whose memory is out of reach here.
    fn composed_grad(&self, xs: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = ys.dims4()?;
        let windows = |pooled: &Tensor| pooled.reshape((batch * channels, height, 1, width, 1));
        let xs_by_window = xs.reshape((batch * channels, height, self.size, width, self.size))?;
        let largest = xs_by_window.broadcast_eq(&windows(ys)?)?.to_dtype(xs.dtype())?;
        let equals = largest.sum_keepdim((2, 4))?;
        let shares = (windows(grad)? / equals)?;
        largest.broadcast_mul(&shares)?.reshape(xs.shape())
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.run(xs, layout)
    }

    fn cuda_fwd(&self, xs: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.run(xs, layout)
    }

    fn metal_fwd(&self, xs: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        self.run(xs, layout)
    }

    /// A window's gradient goes to its largest value, in equal shares where several are largest.
    fn bwd(&self, xs: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (xs, grad) = (xs.detach(), grad.contiguous()?);
        let direct = matches!(xs.dtype(), DType::F32 | DType::F64) && xs.device().is_cpu();
        if direct {
            return xs.apply_op2_no_bwd(&grad, &MaxPoolGrad { size: self.size }).map(Some);
        }
        self.composed_grad(&xs, &ys.detach(), &grad).map(Some)
    }
}

/// Reached on the CPU alone.
struct MaxPoolGrad {
    size: usize,
}

impl CustomOp2 for MaxPoolGrad {
    fn name(&self) -> &'static str {
        "max-pool-grad"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xl: &Layout,
        grad: &CpuStorage,
        gl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (.., width) = xl.shape().dims4()?;
        let sizes = (self.size, width, xl.shape().elem_count());
        let (from_xs, from_grad) = (xl.start_offset(), gl.start_offset());
        let shared = match (xs, grad) {
            (CpuStorage::F32(xs), CpuStorage::F32(grad)) => {
                CpuStorage::F32(share_out(&xs[from_xs..], &grad[from_grad..], sizes))
            }
            (CpuStorage::F64(xs), CpuStorage::F64(grad)) => {
                CpuStorage::F64(share_out(&xs[from_xs..], &grad[from_grad..], sizes))
            }
            (xs, grad) => {
                bail!(
                    "max-pool: {:?} and {:?}, expected one of f32 and f64",
                    xs.dtype(),
                    grad.dtype()
                )
            }
        };
        Ok((shared, xl.shape().clone()))
    }
}

/// The gradient of `count` values in lines of `width`, of which `size` lines make one of windows.
fn share_out<T>(xs: &[T], grad: &[T], (size, width, count): (usize, usize, usize)) -> Vec<T>
where
    T: Copy + Default + PartialOrd + std::ops::Div<Output = T> + From<u16>,
{
    let mut shared = vec![T::default(); count];
    let bands = xs[..count].chunks_exact(size * width).zip(shared.chunks_exact_mut(size * width));
    for ((xs, shared), grad) in bands.zip(grad.chunks_exact(width / size)) {
        for (column, &grad) in grad.iter().enumerate() {
            let places = || {
                (0..size).flat_map(|line| {
                    let start = line * width + column * size;
                    start..start + size
                })
            };
            let largest = places().map(|at| xs[at]).fold(None, larger);
            let equals = || places().filter(|&at| Some(xs[at]) == largest);
            // A window has at most 65,535 values that count as equals: more share by as many.
            let share = grad / T::from(equals().count().min(u16::MAX.into()) as u16);
            equals().for_each(|at| shared[at] = share);
        }
    }
    shared
}

fn larger<T: PartialOrd>(largest: Option<T>, x: T) -> Option<T> {
    match largest {
        Some(largest) if largest >= x => Some(largest),
        _ => Some(x),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::nn::testing::device;

    /// Values of which several are equal in some windows.
    fn gradients(size: usize) -> Result<[Vec<f64>; 2]> {
        let values: Vec<_> = (0..2 * 3 * 6 * 12).map(|i| f64::from(i * 7 % 11)).collect();
        let xs = Var::from_vec(values, (2, 3, 6, 12), device())?;
        let ys = max_pool(xs.as_tensor(), size)?;
        let factors = Tensor::randn(0., 1., ys.shape(), device())?;
        let grads = (&ys * &factors)?.sum_all()?.backward()?;
        let Some(direct) = grads.get(xs.as_tensor()) else { bail!("no gradient") };
        let composed = MaxPool { size }.composed_grad(&xs.detach(), &ys.detach(), &factors)?;
        Ok([direct.flatten_all()?.to_vec1()?, composed.flatten_all()?.to_vec1()?])
    }

    #[test]
    fn the_direct_gradient_is_the_composed_one() -> Result<()> {
        for size in [1, 2, 3, 6] {
            let [direct, composed] = gradients(size)?;
            let difference = direct.iter().zip(&composed).map(|(a, b)| (a - b).abs());
            assert!(difference.fold(0., f64::max) < 1e-15, "{size}");
        }
        Ok(())
    }

    /// Should candle learn it, this says so.
    #[test]
    fn candles_gradient_is_wrong() -> Result<()> {
        let xs = Var::new(&[[[[1f64, 2.], [3., 4.]]]], device())?;
        let grad = |ys: Tensor| match ys.sum_all()?.backward()?.get(xs.as_tensor()) {
            Some(grad) => grad.flatten_all()?.to_vec1::<f64>(),
            None => bail!("no gradient"),
        };
        assert_eq!(grad(max_pool(xs.as_tensor(), 2)?)?, [0., 0., 0., 1.]);
        assert_eq!(grad(xs.max_pool2d(2)?)?, [0., 0., 0., 0.25]);
        Ok(())
    }
}
