//! Activations, whose backward is one pass.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};

use super::scalar::{Scalar, is_direct, values, wide};
use super::{pool, probe};

/// `max(x, 0)`, whose gradient passes where `x ≥ 0`, as candle's does.
///
/// candle's own backward makes four tensors of the input's size, where one will do.
pub(crate) fn relu(xs: &Tensor) -> Result<Tensor> {
    if is_direct(xs) { xs.contiguous()?.apply_op1(Activation::Relu) } else { xs.relu() }
}

/// `tanh x`. candle's takes one value after the other; in f32 this one takes as many as a vector holds,
/// and differs from it by no more than two units in the last place.
pub(crate) fn tanh(xs: &Tensor) -> Result<Tensor> {
    if is_direct(xs) { xs.contiguous()?.apply_op1(Activation::Tanh) } else { xs.tanh() }
}

#[derive(Clone, Copy)]
enum Activation {
    Relu,
    Tanh,
}

impl Activation {
    fn forward<T: Scalar>(self, xs: &[T]) -> Vec<T> {
        match self {
            Self::Relu => {
                mapped([xs, xs], |[x, _]| if x > T::default() { x } else { T::default() })
            }
            Self::Tanh => mapped([xs, xs], |[x, _]| x.tanh()),
        }
    }

    fn backward<T: Scalar>(self, xs: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let one = T::of(1.);
        let grads = match self {
            Self::Relu => {
                with(xs, grad, |[x, grad]| if x >= T::default() { grad } else { T::default() })
            }
            Self::Tanh => with(ys, grad, |[y, grad]: [T; 2]| grad * (one - y * y)),
        };
        Tensor::from_vec(grads?, xs.shape(), &Device::Cpu)
    }
}

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Tanh => "tanh",
        }
    }

    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (start, len) = (layout.start_offset(), layout.shape().elem_count());
        let ys = match xs {
            CpuStorage::F32(xs) => CpuStorage::F32(self.forward(&xs[start..start + len])),
            CpuStorage::F64(xs) => CpuStorage::F64(self.forward(&xs[start..start + len])),
            xs => bail!("{}: the dtype is {:?}, expected f32 or f64", self.name(), xs.dtype()),
        };
        Ok((ys, layout.shape().clone()))
    }

    fn bwd(&self, xs: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        // What is off passes nothing on, but it is not cut off.
        if probe::is_on() {
            return Ok(Some(grad.clone()));
        }
        let grad = grad.contiguous()?;
        match xs.dtype() {
            DType::F64 => self.backward::<f64>(xs, ys, &grad).map(Some),
            _ => self.backward::<f32>(xs, ys, &grad).map(Some),
        }
    }
}

/// A function of each value and its gradient.
fn with<T: Scalar>(
    tensor: &Tensor,
    grad: &Tensor,
    f: impl Fn([T; 2]) -> T + Copy + Sync,
) -> Result<Vec<T>> {
    values(tensor, |left: &[T]| values(grad, |right: &[T]| mapped([left, right], f)))?
}

/// A function of each pair of values.
fn mapped<T: Scalar>([left, right]: [&[T]; 2], f: impl Fn([T; 2]) -> T + Copy + Sync) -> Vec<T> {
    pool::written(left.len(), |range, out| {
        let pairs = left[range.clone()].iter().zip(&right[range]);
        wide(|| out.extend(pairs.map(|(&left, &right)| f([left, right]))));
    })
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

    #[test]
    fn tanh_is_exact_to_two_units_in_the_last_place() {
        for (x, y) in inputs().into_iter().map(|x| (x as f32, Scalar::tanh(x as f32))) {
            let expected = f64::from(x).tanh();
            let unit = f64::from(f32::EPSILON) * expected.abs();
            assert!(
                (f64::from(y) - expected).abs() <= unit || y.is_nan() && x.is_nan(),
                "{x}: {y}"
            );
            assert_eq!(y.is_sign_negative(), x.is_sign_negative(), "{x}: {y}");
        }
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
