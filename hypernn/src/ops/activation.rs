//! Activations, whose backward is one pass.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Device, Layout, MetalStorage, Result, Shape, Tensor,
    bail,
};
use hypernn_kernels::elementwise;

use super::kernels::{CandleThreads, kernel};
use super::probe;
use super::scalar::{Scalar, is_direct, values};
use super::second_order::operand;

/// `max(x, 0)`, and NaN where `x` is NaN, which candle's own turns into 0. The gradient passes but where
/// `x < 0`: at 0 as candle's does, and at NaN.
///
/// candle's own backward makes four tensors of the input's size, where one will do.
pub(crate) fn relu(xs: &Tensor) -> Result<Tensor> {
    match xs.dtype() {
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 if xs.device().is_cpu() => {
            xs.contiguous()?.apply_op1(ActivationNode::Relu)
        }
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => xs.apply_op1(ActivationNode::Relu),
        _ => xs.relu(),
    }
}

/// `tanh x`. candle's takes one value after the other; in f32 this one takes as many as a vector holds,
/// and differs from it by no more than two units in the last place.
pub(crate) fn tanh(xs: &Tensor) -> Result<Tensor> {
    if is_direct(xs) { xs.contiguous()?.apply_op1(ActivationNode::Tanh) } else { xs.tanh() }
}

#[derive(Clone, Copy)]
enum ActivationNode {
    Relu,
    Tanh,
}

impl ActivationNode {
    fn forward<T: Scalar>(self, xs: &[T]) -> Result<Vec<T>> {
        kernel(match self {
            Self::Relu => elementwise::relu(xs, &CandleThreads),
            Self::Tanh => elementwise::tanh(xs, &CandleThreads),
        })
    }

    /// One pass, which is no node.
    fn backward<T: Scalar>(self, xs: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let of_values = match self {
            Self::Relu => xs,
            Self::Tanh => ys,
        };
        let grads = values(of_values, |of_values: &[T]| {
            values(grad, |grad| match self {
                Self::Relu => elementwise::relu_grad(of_values, grad, &CandleThreads),
                Self::Tanh => elementwise::tanh_grad(of_values, grad, &CandleThreads),
            })
        })?;
        Tensor::from_vec(kernel(grads?)?, xs.shape(), &Device::Cpu)
    }

    /// By candle's operations: elsewhere, and where gradients are differentiated again.
    fn composed_backward(self, xs: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Tensor> {
        match self {
            Self::Relu => {
                let zeros = grad.zeros_like()?;
                xs.detach().lt(&zeros)?.where_cond(&zeros, grad)
            }
            Self::Tanh => grad - (grad * ys.sqr()?)?,
        }
    }

    fn not_floating<R>(self, found: DType) -> Result<R> {
        crate::error::bail!(
            dtype,
            "{}: the dtype is {found:?}, expected f16, bf16, f32 or f64",
            self.name()
        )
    }

    /// The forward on a device, by the one kernel of candle's that keeps NaN there: its exponential is
    /// multiplied by nothing, whose sign makes negative values positive zeros.
    fn on_device<S: BackendStorage>(self, xs: &S, layout: &Layout) -> Result<(S, Shape)> {
        match self {
            Self::Relu => Ok((xs.elu(layout, -0.)?, layout.shape().clone())),
            Self::Tanh => bail!("tanh: reached on the CPU alone"),
        }
    }
}

impl CustomOp1 for ActivationNode {
    fn name(&self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Tanh => "tanh",
        }
    }

    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let start = layout.start_offset();
        let range = start..start + layout.shape().elem_count();
        let ys = match (xs, self) {
            (CpuStorage::F32(xs), _) => CpuStorage::F32(self.forward(&xs[range])?),
            (CpuStorage::F64(xs), _) => CpuStorage::F64(self.forward(&xs[range])?),
            (CpuStorage::F16(xs), Self::Relu) => {
                CpuStorage::F16(kernel(elementwise::relu(&xs[range], &CandleThreads))?)
            }
            (CpuStorage::BF16(xs), Self::Relu) => {
                CpuStorage::BF16(kernel(elementwise::relu(&xs[range], &CandleThreads))?)
            }
            (xs, _) => return self.not_floating(xs.dtype()),
        };
        Ok((ys, layout.shape().clone()))
    }

    fn cuda_fwd(&self, xs: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_device(xs, layout)
    }

    fn metal_fwd(&self, xs: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        self.on_device(xs, layout)
    }

    fn bwd(&self, xs: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        // What is off passes nothing on, but it is not cut off.
        if probe::is_on() {
            return Ok(Some(grad.clone()));
        }
        let ys = operand(ys);
        if !is_direct(xs) || grad.track_op() || ys.track_op() {
            return self.composed_backward(xs, &ys, grad).map(Some);
        }
        let grad = grad.contiguous()?;
        match xs.dtype() {
            DType::F64 => self.backward::<f64>(xs, &ys, &grad).map(Some),
            _ => self.backward::<f32>(xs, &ys, &grad).map(Some),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::Var;

    use super::*;

    /// Around zero, of either sign, where functions saturate, and what is no number.
    fn inputs() -> Vec<f64> {
        let steps = (0..4001).map(|i| (f64::from(i) - 2000.) / 150.);
        let tiny = (1..40).flat_map(|i| [1e-1_f64.powi(i), -1e-1_f64.powi(i)]);
        steps.chain(tiny).chain([1e4, -1e4, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]).collect()
    }

    fn outputs_and_grads(
        xs: &[f64],
        dtype: DType,
        f: fn(&Tensor) -> Result<Tensor>,
    ) -> [Vec<f64>; 2] {
        let xs = Tensor::new(xs, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let xs = Var::from_tensor(&xs).unwrap();
        let ys = f(xs.as_tensor()).unwrap();
        let weights = Tensor::arange(0., ys.elem_count() as f64, &Device::Cpu).unwrap();
        let loss = (&ys * weights.to_dtype(dtype).unwrap()).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        [&ys, grads.get(&xs).unwrap()]
            .map(|tensor| tensor.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap())
    }

    #[test]
    fn relu_is_candle_s() {
        for dtype in [DType::F32, DType::F64] {
            // What is no number has a gradient in candle, which multiplies by zero.
            let xs: Vec<_> =
                inputs().into_iter().filter(|x| !x.is_nan()).chain([0., -0.]).collect();
            let expected = outputs_and_grads(&xs, dtype, Tensor::relu);
            assert_eq!(outputs_and_grads(&xs, dtype, relu), expected);
        }
    }

    /// In every dtype, in values and gradients; and by candle's operations, which serve devices, half
    /// precision and second derivatives.
    #[test]
    fn relu_keeps_nan() {
        let xs = [-1., f64::NAN, 2., -f64::NAN, 0., f64::INFINITY, f64::NEG_INFINITY];
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let [ys, grads] = outputs_and_grads(&xs, dtype, relu);
            let expected = [0., f64::NAN, 2., f64::NAN, 0., f64::INFINITY, 0.];
            assert_eq!(format!("{ys:?}"), format!("{expected:?}"), "{dtype:?}");
            assert_eq!(grads, [0., 1., 2., 3., 4., 5., 0.], "{dtype:?}");
        }
        let xs = Tensor::new(&xs, &Device::Cpu).unwrap();
        let grad = xs.ones_like().unwrap();
        let composed = ActivationNode::Relu.composed_backward(&xs, &xs, &grad).unwrap();
        assert_eq!(composed.to_vec1::<f64>().unwrap(), [0., 1., 1., 1., 1., 1., 0.]);
    }

    #[test]
    fn tanh_is_candle_s() {
        let xs: Vec<_> = inputs().into_iter().filter(|x| !x.is_nan()).collect();
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-15)] {
            let expected = outputs_and_grads(&xs, dtype, Tensor::tanh);
            for (found, expected) in outputs_and_grads(&xs, dtype, tanh).iter().zip(&expected) {
                for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                    let scale = 1. + i as f64;
                    assert!((found - expected).abs() <= tolerance * scale, "{found} {expected}");
                }
            }
        }
    }

    #[test]
    fn many_values_are_those_of_few() {
        let xs = Tensor::randn(0_f32, 1., 300_000, &Device::Cpu).unwrap();
        for f in [relu, tanh] {
            let few = xs.chunk(100, 0).unwrap().iter().map(|xs| f(xs).unwrap()).collect::<Vec<_>>();
            let few = Tensor::cat(&few, 0).unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(f(&xs).unwrap().to_vec1::<f32>().unwrap(), few);
        }
    }
}
