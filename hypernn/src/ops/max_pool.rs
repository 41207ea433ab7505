//! Max pooling over windows side by side, with the gradient that candle gets wrong: its own is
//! divided by the window's size, and lies at other places where the windows leave a remainder.
//!
//! NaN counts as larger than any number, as in PyTorch; candle's own leaves it out.

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::op::CmpOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, Layout, MetalStorage, Result, Shape, Tensor,
    WithDType,
};

use super::scalar::is_direct;

/// `[B, C, H, W]` to `[B, C, H / size, W / size]`, where `size` divides both.
pub(crate) fn max_pool(xs: &Tensor, size: usize) -> Result<Tensor> {
    xs.contiguous()?.apply_op1(MaxPool { size })
}

struct MaxPool {
    size: usize,
}

impl MaxPool {
    fn output(&self, layout: &Layout) -> Result<Shape> {
        let (batch, channels, height, width) = layout.shape().dims4()?;
        Ok(Shape::from((batch, channels, height / self.size, width / self.size)))
    }

    /// By candle's kernels, which leave NaN out: where a window has one is pooled by itself.
    fn on_device<S>(&self, xs: &S, layout: &Layout) -> Result<(S, Shape)>
    where
        S: BackendStorage<Device: BackendDevice<Storage = S>>,
    {
        let (window, shape) = ((self.size, self.size), self.output(layout)?);
        let largest = xs.max_pool2d(layout, window, window)?;
        if xs.dtype().is_int() {
            return Ok((largest, shape));
        }
        let is_nan = xs.cmp(CmpOp::Ne, xs, layout, layout)?;
        let is_nan = is_nan.max_pool2d(&Layout::contiguous(layout.shape()), window, window)?;
        let one = Layout::contiguous(Shape::from(()));
        let nan = xs.device().zeros_impl(one.shape(), xs.dtype())?.affine(&one, 1., f64::NAN)?;
        let (each, all) = (one.broadcast_as(&shape)?, Layout::contiguous(&shape));
        Ok((is_nan.where_cond(&all, &nan, &each, &largest, &all)?, shape))
    }

    /// On the CPU, of contiguous values.
    fn on_cpu<T: WithDType>(&self, xs: &[T], layout: &Layout) -> Result<Vec<T>> {
        let (start, count) = (layout.start_offset(), layout.shape().elem_count());
        let (.., width) = layout.shape().dims4()?;
        Ok(largest(&xs[start..start + count], self.size, width))
    }

    /// Of candle's operations, for devices whose memory is out of reach here, and for a gradient that is
    /// differentiated again.
    fn composed_grad(&self, xs: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = ys.dims4()?;
        let windows = |pooled: &Tensor| pooled.reshape((batch * channels, height, 1, width, 1));
        let xs_by_window = xs.reshape((batch * channels, height, self.size, width, self.size))?;
        let is_largest = xs_by_window.broadcast_eq(&windows(ys)?)?;
        let largest = (is_largest + xs_by_window.ne(&xs_by_window)?)?.to_dtype(xs.dtype())?;
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
        let ys = match xs {
            CpuStorage::F32(xs) => CpuStorage::F32(self.on_cpu(xs, layout)?),
            CpuStorage::F64(xs) => CpuStorage::F64(self.on_cpu(xs, layout)?),
            CpuStorage::F16(xs) => CpuStorage::F16(self.on_cpu(xs, layout)?),
            CpuStorage::BF16(xs) => CpuStorage::BF16(self.on_cpu(xs, layout)?),
            // Integers have no NaN.
            xs => xs.max_pool2d(layout, (self.size, self.size), (self.size, self.size))?,
        };
        Ok((ys, self.output(layout)?))
    }

    fn cuda_fwd(&self, xs: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_device(xs, layout)
    }

    fn metal_fwd(&self, xs: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        self.on_device(xs, layout)
    }

    /// A window's gradient goes to its largest value, in equal shares where several are largest.
    fn bwd(&self, xs: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (xs, grad) = (xs.detach(), grad.contiguous()?);
        if is_direct(&xs) && !grad.track_op() {
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
        let (size, count) = (self.size, xl.shape().elem_count());
        let (from_xs, from_grad) = (xl.start_offset(), gl.start_offset());
        let shared = match (xs, grad) {
            (CpuStorage::F32(xs), CpuStorage::F32(grad)) => {
                CpuStorage::F32(share_out(&xs[from_xs..], &grad[from_grad..], size, width, count))
            }
            (CpuStorage::F64(xs), CpuStorage::F64(grad)) => {
                CpuStorage::F64(share_out(&xs[from_xs..], &grad[from_grad..], size, width, count))
            }
            (xs, grad) => {
                crate::error::bail!(
                    dtype,
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
fn share_out<T>(xs: &[T], grad: &[T], size: usize, width: usize, count: usize) -> Vec<T>
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
            let largest = places().map(|at| xs[at]).reduce(larger);
            // NaN is the largest of a window, and unequal to itself.
            let equals = || places().filter(|&at| Some(xs[at]) == largest || is_nan(xs[at]));
            // A window has at most 65,535 values that count as equals: more share by as many.
            let share = grad / T::from(equals().count().min(u16::MAX.into()) as u16);
            equals().for_each(|at| shared[at] = share);
        }
    }
    shared
}

/// The largest value of each window, of lines of `width` values, of which `size` make one of windows.
fn largest<T: WithDType>(xs: &[T], size: usize, width: usize) -> Vec<T> {
    let mut all = Vec::with_capacity(xs.len() / (size * size).max(1));
    for band in xs.chunks_exact((size * width).max(1)) {
        let start = all.len();
        for (line, values) in band.chunks_exact(width).enumerate() {
            let windows = values.chunks_exact(size);
            let of_line = windows.map(|window| window[1..].iter().copied().fold(window[0], larger));
            if line == 0 {
                all.extend(of_line);
            } else {
                let pairs = all[start..].iter_mut().zip(of_line);
                pairs.for_each(|(largest, x)| *largest = larger(*largest, x));
            }
        }
    }
    all
}

/// NaN where one of them is.
fn larger<T: PartialOrd + Copy>(largest: T, x: T) -> T {
    if largest < x || is_nan(x) { x } else { largest }
}

#[allow(clippy::eq_op, reason = "what is no number is unequal to itself")]
fn is_nan<T: PartialOrd>(x: T) -> bool {
    x != x
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var, bail};

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

    #[test]
    fn integers_are_pooled() -> Result<()> {
        let xs = Tensor::arange(0u32, 16, &Device::Cpu)?.reshape((1, 1, 4, 4))?;
        assert_eq!(flat::<u32>(&max_pool(&xs, 2)?)?, [5, 7, 13, 15]);
        Ok(())
    }

    fn flat<T: WithDType>(tensor: &Tensor) -> Result<Vec<T>> {
        tensor.flatten_all()?.to_vec1()
    }

    /// One of four windows each with NaN first, last, twice and not at all, in every dtype: values, and
    /// gradients by both ways.
    #[test]
    fn nan_is_the_largest() -> Result<()> {
        let lines = [
            [f64::NAN, 1., 1., 2., f64::NAN, 3., -1., -2.],
            [2., 3., 3., f64::NAN, 0., f64::NAN, -1., f64::NEG_INFINITY],
        ];
        let xs = Tensor::new(&lines, &Device::Cpu)?.reshape((1, 1, 2, 8))?;
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let xs = Var::from_tensor(&xs.to_dtype(dtype)?)?;
            let ys = max_pool(xs.as_tensor(), 2)?;
            let found = flat::<f64>(&ys.to_dtype(DType::F64)?)?;
            assert_eq!(format!("{found:?}"), "[NaN, NaN, NaN, -1.0]", "{dtype:?}");
            let grads = ys.sum_all()?.backward()?;
            let Some(grad) = grads.get(&xs) else { bail!("no gradient") };
            let expected = [1., 0., 0., 0., 0.5, 0., 0.5, 0., 0., 0., 0., 1., 0., 0.5, 0.5, 0.];
            assert_eq!(flat::<f64>(&grad.to_dtype(DType::F64)?)?, expected, "{dtype:?}");
        }
        Ok(())
    }

    /// What devices do, here on the CPU's storage.
    #[test]
    fn kernels_with_a_mask_give_the_direct_values() -> Result<()> {
        let values = (0..2 * 3 * 6 * 12).map(|i| match i * 7 % 31 {
            0 => f64::NAN,
            i => f64::from(i - 15),
        });
        let (pool, storage) = (MaxPool { size: 3 }, CpuStorage::F64(values.collect()));
        let layout = Layout::contiguous((2, 3, 6, 12));
        let (by_kernels, shape) = pool.on_device(&storage, &layout)?;
        let (direct, expected) = pool.cpu_fwd(&storage, &layout)?;
        assert_eq!(shape, expected);
        let values = |storage: &CpuStorage| {
            Ok::<_, candle_core::Error>(format!("{:?}", storage.as_slice::<f64>()?))
        };
        assert_eq!(values(&by_kernels)?, values(&direct)?);
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
